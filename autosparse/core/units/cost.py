"""Costs of a network by the shapes of its weights: what a budget limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from autosparse.core.weights import Layer

Shapes: TypeAlias = Mapping[str, Sequence[int]]
"""Weight -> shape, without the channels that left"""
WEIGHTS, MACS = "weights", "multiply-adds"


class Cost(Protocol):
    """Whole number that a budget limits, of the shapes of a smaller network's weights.

    `counted` names its unit in errors.
    """

    @property
    def counted(self) -> str:
        """Name of the unit, such as `weights`."""
        ...

    def __call__(self, shapes: Shapes) -> int:
        """Return the cost of a network with these shapes."""
        ...


@dataclass(frozen=True)
class PerWeight:
    """Sum of the costs of single weights, `per_weight` by layer."""

    counted: str
    per_weight: Mapping[str, int]

    def __call__(self, shapes: Shapes) -> int:
        """Return the sum over all weights."""
        return sum(self.per_weight[name] * math.prod(shape) for name, shape in shapes.items())


def in_weights(layers: Sequence[Layer]) -> PerWeight:
    """Return the cost in weights."""
    return PerWeight(WEIGHTS, {layer.name: 1 for layer in layers})


def in_macs(layers: Sequence[Layer]) -> PerWeight:
    """Return the cost in multiply-adds."""
    return PerWeight(MACS, {layer.name: layer.positions for layer in layers})
