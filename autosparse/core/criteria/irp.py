"""What iterative rewind pruning of the same network found: the oracle."""

from __future__ import annotations

from autosparse.core.criteria import criteria
from autosparse.core.evidence import Evidence
from autosparse.core.weights import Tensors


@criteria.register(needs_rounds=True, source="AutoSparse, arXiv 2408.14757; Frankle & Carbin 2019")
def irp(evidence: Evidence) -> Tensors:
    """The rounds of IRP on this very network that a weight survives, and how high the last one ranked it."""
    assert evidence.survival is not None, "the plan gives a method that needs rounds its rounds"
    return {name: order.to(evidence.weights[name].device) for name, order in evidence.survival.items()}
