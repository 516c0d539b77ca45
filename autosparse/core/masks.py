"""Masks: made by the four choices, checked, combined."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from autosparse.core.allocation import Counts
from autosparse.core.evidence import Evidence, gradient_of
from autosparse.core.weights import Layer, Tensors
from autosparse.lazy import torch

Score: TypeAlias = Callable[[Evidence], Tensors]
Allocate: TypeAlias = Callable[[Tensors, Sequence[Layer], int], Counts]
Select: TypeAlias = "Callable[[torch.Tensor, int, torch.Generator], torch.Tensor]"


def prune(
    evidence: Evidence,
    counts: Sequence[int],
    *,
    score: Score,
    allocate: Allocate,
    select: Select,
    observe: Callable[[int, int], None] = lambda done, total: None,
) -> Tensors:
    """Masks, name -> bool tensor, with exactly `counts[-1]` ones, reached in `len(counts)` rounds.

    (Counts are of whatever `allocate` counts, such as multiply-adds where it is made by `budget.by_macs`.)
    Every round scores the network under the masks of the last one; what is pruned stays pruned. Raises
    ValueError when a score is not a number, naming the layer, and when every score is zero at the start: of
    equal scores the first are kept, and zeros would pass for a choice that nobody made.
    """
    masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in evidence.weights.items()}
    for number, keep in enumerate(counts, start=1):
        scores = score(evidence)
        for name, values in scores.items():
            if bool(values.isnan().any()):
                raise ValueError(f"{int(values.isnan().sum())} scores of layer {name} are not numbers")
        if number == 1 and not any(bool(values.any()) for values in scores.values()):
            raise ValueError("every weight has score 0: the network's last layer may begin at zero")
        scores = {name: values.detach().masked_fill(~masks[name], -math.inf) for name, values in scores.items()}
        quotas = allocate(scores, evidence.layers, keep)
        masks = {name: select(scores[name], quotas[name], evidence.generator) for name in scores}
        if number < len(counts):
            evidence = evidence.masked(masks)
        observe(number, len(counts))
    return masks


def kept(masks: Mapping[str, torch.Tensor]) -> Counts:
    """Ones per layer."""
    return {name: int(mask.sum()) for name, mask in masks.items()}


def effective(evidence: Evidence) -> Counts:
    """Weights per layer that lie on a path from input to output (Vysogorets & Kempe 2023).

    A weight counts when the linear positive network's output feels it: all present weights are set to
    their layer's 1 / fan-in, so that path sums neither vanish nor overflow.
    """
    leaves = {
        layer.name: (evidence.masks[layer.name].double() / layer.fan_in).requires_grad_() for layer in evidence.layers
    }
    gradient = gradient_of(evidence.flow(leaves, paths_only=True), leaves)
    return {name: int(((part > 0) & evidence.masks[name].bool()).sum()) for name, part in gradient.items()}
