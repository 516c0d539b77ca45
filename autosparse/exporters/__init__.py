"""Formats of emitted models: a registered function of a `Model` gives file name -> bytes.

Its `read` gives the model back from the same files; it raises ValueError for bytes that are no such model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from autosparse.registry import Registry

if TYPE_CHECKING:
    from autosparse.lazy import torch


@dataclass(frozen=True)
class Model:
    """A pruned, trained network: its whole state and its masks, by name."""

    state: "Mapping[str, torch.Tensor]"
    masks: "Mapping[str, torch.Tensor]"


Export: TypeAlias = Callable[..., "dict[str, bytes]"]
exporters: Registry[Export] = Registry("format", "formats")

from autosparse.exporters import compact, safetensors  # noqa: E402

__all__ = ["Export", "Model", "compact", "exporters", "safetensors"]
