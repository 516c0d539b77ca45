"""Formats of emitted models: a registered function of a `Model` gives file name -> bytes."""

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


Export: TypeAlias = Callable[[Model], "dict[str, bytes]"]
exporters: Registry[Export] = Registry("format", "formats")

from autosparse.exporters import safetensors  # noqa: E402

__all__ = ["Export", "Model", "exporters", "safetensors"]
