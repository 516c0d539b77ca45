"""SNIP: connection sensitivity."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from autosparse.core.criteria import criteria
from autosparse.core.evidence import Evidence
from autosparse.core.weights import Tensors


@criteria.register(gradients=1)
def snip(
    evidence: Evidence,
    *,
    images: Annotated[int, Ge(1), "training images that the gradient is taken over"] = 256,
) -> Tensors:
    """|w g|: how much the loss feels a weight (Lee, Ajanthan & Torr 2019, eq. 5)."""
    gradient = evidence.gradient(evidence.weights, evidence.draw(images))
    return {name: (weight * gradient[name]).abs() for name, weight in evidence.weights.items()}
