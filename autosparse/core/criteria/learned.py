"""Scores learned from IRP: a scorer's prediction, and the oracle, IRP of the same network."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from autosparse.core.criteria._base import criteria
from autosparse.core.evidence import Evidence
from autosparse.core.weights import Tensors


@criteria.register(needs_scorer=True, gradients=1, features=1, source="AutoSparse, arXiv 2408.14757")
def learned(
    evidence: Evidence,
    *,
    images: Annotated[int, Ge(1), "training images that the gradient is taken over"] = 512,
) -> Tensors:
    """A trained scorer's prediction of survival, of the network in the state in which the scorer looks at it."""
    scorer = evidence.scorer
    assert scorer is not None, "the plan gives a method that needs a scorer its scorer"
    return scorer.predict(evidence, images)


@criteria.register(needs_rounds=True, source="AutoSparse, arXiv 2408.14757; Frankle & Carbin 2019")
def irp(evidence: Evidence) -> Tensors:
    """The rounds of IRP on this very network that a weight survives, and how high the last one ranked it."""
    assert evidence.survival is not None, "the plan gives a method that needs rounds its rounds"
    return {name: order.to(evidence.weights[name].device) for name, order in evidence.survival.items()}
