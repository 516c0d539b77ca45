"""Parameters and buffers in a recorded network: which of their elements a node reads, in which order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from autosparse.core.graph.channel_labels import CONSTANT, along
from autosparse.lazy_torch import torch


@dataclass(frozen=True)
class Held:
    """A parameter or buffer, or its elements in another order: their positions among all elements of all tensors.

    As long as they are a view of one tensor, `view` has its strides, on the device meta, and `copied` is None.
    """

    names: tuple[str, ...]
    first: int
    view: torch.Tensor
    copied: torch.Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        """The shape of the elements."""
        return self.view.shape if self.copied is None else self.copied.shape

    @property
    def positions(self) -> torch.Tensor:
        """The position of every element, int64 of this shape."""
        if self.copied is not None:
            return self.copied
        made = torch.full([1] * self.view.ndim, self.first + self.view.storage_offset())
        for dim, size in enumerate(self.view.shape):
            made = made + along(torch.arange(size) * self.view.stride(dim), dim, self.view.shape)
        return made

    def moved(self, move: Callable[[torch.Tensor], Any]) -> Any:
        """Return the elements in another order, or those of each part."""
        if self.copied is None:
            views = move(self.view)
            parts = views if isinstance(views, list | tuple) else [views]
            if all(part is self.view or part._base is self._whole for part in parts):
                return map_parts(lambda view: Held(self.names, self.first, view), views)
        return map_parts(lambda copied: Held(self.names, self.first, self.view, copied), move(self.positions))

    @property
    def _whole(self) -> torch.Tensor:
        return self.view if self.view._base is None else self.view._base

    @property
    def order(self) -> tuple[int, ...] | None:
        """The tensor's dimension that each dimension is, `CONSTANT` for one of size 1 more; None for other orders."""
        whole = self._whole
        if self.copied is not None or self.view.numel() != whole.numel():
            return None
        free = [dim for dim, size in enumerate(whole.shape) if size == 1]
        same = {(size, whole.stride(dim)): dim for dim, size in enumerate(whole.shape) if size > 1}
        order = [
            same.get((size, self.view.stride(dim))) if size > 1 else free.pop(0) if free else CONSTANT
            for dim, size in enumerate(self.view.shape)
        ]
        return None if None in order else tuple(dim for dim in order if dim is not None)


def map_parts(function: Callable[[Any], Any], value: Any) -> Any:
    """Return the result of a function, or the list of those of each part."""
    return [function(part) for part in value] if isinstance(value, list | tuple) else function(value)
