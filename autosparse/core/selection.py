"""Which weights a layer keeps: scores and a count -> a mask with exactly that many ones.

A selection is `(scores, count, generator) -> mask` for one layer; -inf marks weights that are gone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from autosparse.lazy import torch
from autosparse.registry import Registry

Selection: TypeAlias = "Callable[..., torch.Tensor]"
selections: Registry[Selection] = Registry("selection", "selections")


@selections.register
def top(scores: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """The highest scores."""
    return keep_top(scores, count)


@selections.register(name="random")
def shuffled(scores: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Any weights: the layer's quota filled at random, which shows what a score's quotas alone are worth."""
    drawn = torch.rand(scores.shape, generator=generator, device="cpu").to(scores.device)
    return keep_top(drawn.masked_fill(scores == -math.inf, -math.inf), count)


def keep_top(scores: torch.Tensor, count: int) -> torch.Tensor:
    """A boolean mask with exactly `count` ones at the highest scores; of equal ones the first are kept.

    Raises ValueError when a score is not a number or fewer than `count` are above -inf.
    """
    flat = scores.flatten()
    if bool(flat.isnan().any()):
        raise ValueError(f"{int(flat.isnan().sum())} of {flat.numel()} scores are not numbers")
    if count <= 0:
        return torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    if count > int((flat > -math.inf).sum()):
        raise ValueError(f"{count} weights cannot be kept of the {int((flat > -math.inf).sum())} that are left")
    threshold = flat.topk(count, sorted=False).values.min()
    mask = flat > threshold
    ties = (flat == threshold).nonzero().flatten()
    mask[ties[: count - int(mask.sum())]] = True
    return mask.reshape(scores.shape)
