"""Which weights each layer keeps: scores and quotas -> masks with exactly that many ones.

A selection is `(scores, quotas, evidence) -> masks` for all layers, name -> tensor, so that it may look at how they are
joined; -inf marks weights that are gone. What it costs is stated with the registration, in SynFlow passes
(`flows_per_layer`); one with the fact `blind` looks at no score, one with `plain` at nothing else, one with `draws`
takes random numbers, and one with `tuned` is what the scorer came with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from autosparse.core.torch_compat.sorting import descending, reached_by
from autosparse.core.weights import Tensors
from autosparse.lazy_torch import torch
from autosparse.registry import Registry

Selection: TypeAlias = Callable[..., Tensors]
selections: Registry[Selection] = Registry("selection", "selections")


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
    positions = torch.arange(len(flat), 0, -1, dtype=torch.float64, device=flat.device)
    ranks[descending(flat)] = positions / (len(flat) + 1)
    return ranks.reshape(scores.shape)
