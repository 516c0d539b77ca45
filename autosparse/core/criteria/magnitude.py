"""Magnitude at initialization."""

from __future__ import annotations

from autosparse.core.criteria import criteria
from autosparse.core.evidence import Evidence
from autosparse.core.weights import Tensors


@criteria.register(source="Han et al. 2015, applied before training")
def magnitude(evidence: Evidence) -> Tensors:
    """|w| at initialization."""
    return {name: weight.abs() for name, weight in evidence.initial.items()}
