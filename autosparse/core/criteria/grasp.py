"""GraSP: gradient signal preservation."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt

from autosparse.core.criteria import criteria
from autosparse.core.criteria.options import Parts, ScoringMode
from autosparse.core.evidence import Evidence
from autosparse.core.inputs import in_parts
from autosparse.core.weights import Tensors


@criteria.register(version=2, gradients=3.5, source="Wang, Zhang & Grosse 2020, eq. 8, negated")
def grasp(
    evidence: Evidence,
    *,
    images: Annotated[int, Ge(1), "training images; the authors take ten a class"] = 100,
    temperature: Annotated[float, Gt(0), "divides the logits"] = 200.0,
    mode: ScoringMode = "training",
    parts: Parts = 2,
) -> Tensors:
    """w (H g): keep what the gradient's norm needs. As its authors do, on two halves of a batch, one at a time."""
    batches = in_parts(evidence.draw(images), parts)
    gradient = evidence.gradient(evidence.weights, batches, temperature, mode=mode)
    product = evidence.hessian_times(gradient, evidence.weights, batches, temperature, mode=mode)
    return {name: weight * product[name] for name, weight in evidence.initial.items()}
