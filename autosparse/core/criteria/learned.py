"""The learned criterion: a scorer's prediction of the pruning rounds that a weight survives."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from autosparse.core.criteria import criteria
from autosparse.core.describe import describe
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
    found: Tensors = {}
    for part in describe(scorer.prepare(evidence), scorer.groups, images):
        found |= {name: scores.view(evidence.weights[name].shape) for name, scores in scorer.predict(part).items()}
    return found
