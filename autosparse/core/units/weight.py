"""Single weights: unstructured pruning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autosparse.core.allocation import Allocation, by_macs
from autosparse.core.evidence import Evidence
from autosparse.core.graph.slicing import Slicing
from autosparse.core.units._base import Unit, units
from autosparse.core.units.cost import WEIGHTS, Cost, PerWeight
from autosparse.core.weights import Layer, Tensors


@dataclass(frozen=True)
class Weights(Unit):
    """Every weight for itself."""

    evidence: Evidence

    @property
    def layers(self) -> Sequence[Layer]:
        """The layers of the network."""
        return self.evidence.layers

    def gather(self, scores: Tensors) -> Tensors:
        """Return the scores."""
        return scores

    def spread(self, chosen: Tensors) -> Tensors:
        """Return the masks."""
        return chosen

    def limited(self, allocate: Allocation, cost: Cost) -> Allocation:
        """Return the allocation, limited in multiply-adds where asked."""
        assert isinstance(cost, PerWeight), "specs refuse a latency of single weights"
        return allocate if cost.counted == WEIGHTS else by_macs(allocate)

    def slicing(self, chosen: Tensors) -> Slicing | None:
        """Return None: no tensor gets smaller."""
        return None

    def counts(self, chosen: Tensors) -> Mapping[str, Sequence[int]]:
        """Return nothing: the masks show the weights."""
        return {}


@units.register
def weight(evidence: Evidence) -> Unit:
    """Prune single weights, anywhere in a layer.

    Args:
        evidence: Network under full masks.

    Returns:
        The unit.
    """
    return Weights(evidence)
