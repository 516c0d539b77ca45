"""Registry of units: `(evidence) -> Unit`, the parts of a network that a method scores and counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from autosparse.core.allocation import Allocation
from autosparse.core.graph.slicing import Slicing
from autosparse.core.units.cost import Cost
from autosparse.core.weights import Layer, Tensors
from autosparse.registry import Registry


class Unit(Protocol):
    """The parts of a network that leave it as wholes; by default all units of a layer compete.

    `layers` has them as layers of single weights: allocations and selections count in them. Scores and masks of units
    are tensors by the names of these layers.
    """

    @property
    def layers(self) -> Sequence[Layer]:
        """Layers whose weights are the units."""
        ...

    def gather(self, scores: Tensors) -> Tensors:
        """Return the scores of units, of those of weights."""
        ...

    def spread(self, chosen: Tensors) -> Tensors:
        """Return the masks of weights, of those of units; of fractions, products, which gradients pass."""
        ...

    def relative(self, scores: Tensors) -> Tensors:
        """Return scores that one threshold in each layer cuts: units that compete in blocks, relative to theirs."""
        return scores

    def filled(self, select: Callable[..., Tensors]) -> Callable[..., Tensors]:
        """Return a selection within the pattern of the units."""
        return select

    def amount(self, limit: int, cost: Cost) -> int:
        """Return the part of a limit of a cost that the units keep."""
        return limit

    def limited(self, allocate: Allocation, cost: Cost) -> Allocation:
        """Return an allocation of units whose limit is a cost of the network that they leave."""
        ...

    def slicing(self, chosen: Tensors) -> Slicing | None:
        """Return the smaller network that masks of units leave; None if they make no tensor smaller."""
        ...

    def counts(self, chosen: Tensors) -> Mapping[str, Sequence[int]]:
        """Return the positions of the units kept by layer; empty for single weights, whose masks show them."""
        ...


units: Registry[Callable[..., Unit]] = Registry("unit", "units")
