"""Which weights each layer keeps: scores and quotas -> masks with exactly that many ones.

A selection is `(scores, quotas, evidence) -> masks` for all layers, name -> tensor, so that it may look at how they are
joined; -inf marks weights that are gone. One with the fact `blind` looks at no score, one with `plain` at nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

from autosparse.core.evidence import Evidence
from autosparse.core.weights import Tensors
from autosparse.lazy import torch
from autosparse.registry import Registry

Selection: TypeAlias = Callable[..., Tensors]
selections: Registry[Selection] = Registry("selection", "selections")


@selections.register(plain=True)
def top(scores: Tensors, quotas: Mapping[str, int], evidence: Evidence) -> Tensors:
    """The highest scores."""
    return {name: keep_top(values, quotas[name]) for name, values in scores.items()}


@selections.register(name="random", blind=True, source="Su et al. 2020; Frankle et al. 2021")
def shuffled(scores: Tensors, quotas: Mapping[str, int], evidence: Evidence) -> Tensors:
    """Any weights: the layer's quota filled at random, which shows what a score's quotas alone are worth."""
    return {name: keep_top(_drawn(values, evidence.generator), quotas[name]) for name, values in scores.items()}


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


def _drawn(scores: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    drawn = torch.rand(scores.shape, generator=generator, device="cpu").to(scores.device)
    return drawn.masked_fill(scores == -math.inf, -math.inf)
