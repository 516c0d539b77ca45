"""The highest scores."""

from __future__ import annotations

import math
from collections.abc import Mapping

from autosparse.core.evidence import Evidence
from autosparse.core.order import descending, reached_by
from autosparse.core.selection import selections
from autosparse.core.weights import Tensors
from autosparse.lazy import torch


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
