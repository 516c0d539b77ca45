"""Networks by name: a registered factory `(input_shape, classes, **options) -> torch.nn.Module`.

`input_shape` is (channels, height, width). Network classes live in `models.networks`, which factories
import, so that naming a model does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from autosparse.registry import Registry

if TYPE_CHECKING:
    from autosparse.lazy import torch

Factory: TypeAlias = "Callable[..., torch.nn.Module]"
models: Registry[Factory] = Registry("model", "models")

from autosparse.models import lenet, mlp, mobilenet, resnet, vgg  # noqa: E402

__all__ = ["Factory", "lenet", "mlp", "mobilenet", "models", "resnet", "vgg"]
