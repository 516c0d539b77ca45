"""The highest scores: `top`, and `tuned`, the selection that the scorer came with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from autosparse.core.evidence import Evidence
from autosparse.core.selection._base import selections
from autosparse.core.torch_compat.sorting import descending, reached_by
from autosparse.core.weights import Tensors
from autosparse.lazy_torch import torch


@selections.register(plain=True)
def top(scores: Tensors, quotas: Mapping[str, int], evidence: Evidence) -> Tensors:
    """The highest scores."""
    return {name: keep_top(values, quotas[name]) for name, values in scores.items()}


def keep_top(scores: torch.Tensor, count: int) -> torch.Tensor:
    """A boolean mask with exactly `count` ones at the highest scores; of equal ones the first are kept.

    Raises ValueError when a score is not a number or fewer than `count` are above -inf.
    """
    flat = scores.flatten()
    if bool(flat.isnan().any()):
        raise ValueError(f"{int(flat.isnan().count_nonzero())} of {flat.numel()} scores are not numbers")
    if count <= 0:
        return torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    if count > int((flat > -math.inf).count_nonzero()):
        raise ValueError(
            f"{count} weights cannot be kept of the {int((flat > -math.inf).count_nonzero())} that are left"
        )
    threshold = reached_by(flat, count)
    mask = flat > threshold
    ties = (flat == threshold).nonzero().flatten()
    mask[ties[: count - int(mask.count_nonzero())]] = True
    return mask.reshape(scores.shape)


def ranks_of(scores: torch.Tensor) -> torch.Tensor:
    """The place of every score among all, float64 in (0, 1), the highest nearest to 1; of equal ones the first."""
    flat = scores.flatten()
    ranks = torch.empty(flat.shape, dtype=torch.float64, device=flat.device)
    places = torch.arange(len(flat), 0, -1, dtype=torch.float64, device=flat.device)
    ranks[descending(flat)] = places / (len(flat) + 1)
    return ranks.reshape(scores.shape)


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
