"""SNIP: connection sensitivity."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from autosparse.core.criteria import criteria
from autosparse.core.criteria.options import ScoringMode
from autosparse.core.evidence import Evidence
from autosparse.core.weights import Tensors


@criteria.register(gradients=1, source="Lee, Ajanthan & Torr 2019, eq. 5")
def snip(
    evidence: Evidence,
    *,
    images: Annotated[int, Ge(1), "training images that the gradient is taken over"] = 256,
    mode: ScoringMode = "training",
) -> Tensors:
    """|w g|: how much the loss feels a weight."""
    gradient = evidence.gradient(evidence.weights, evidence.draw(images), mode=mode)
    return {name: (weight * gradient[name]).abs() for name, weight in evidence.initial.items()}
