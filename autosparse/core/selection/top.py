"""The highest scores: `top`, and `tuned`, the selection that the scorer came with."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from autosparse.core.evidence import Evidence
from autosparse.core.selection._base import keep_top, selections
from autosparse.core.weights import Tensors


@selections.register(plain=True)
def top(scores: Tensors, quotas: Mapping[str, int], evidence: Evidence) -> Tensors:
    """The highest scores."""
    return {name: keep_top(values, quotas[name]) for name, values in scores.items()}


@selections.register(tuned=True)
def tuned(scores: Tensors, quotas: Mapping[str, int], evidence: Evidence) -> Tensors:
    """The selection that goes with the scorer: tuned, of `tuning.selections`, or that of its kind."""
    chosen = evidence.scorer.select if evidence.scorer else None
    return (chosen or top)(scores, quotas, evidence)


def draws(select: Callable[..., Tensors], evidence: Evidence) -> bool:
    """Whether a selection, or the one that goes with the scorer, takes random numbers: it breaks ties by itself."""
    function = getattr(select, "func", select)
    if function is tuned:
        return evidence.scorer is not None and draws(evidence.scorer.select or top, evidence)
    return any(entry.function is function and entry.facts.get("draws", False) for entry in selections)
