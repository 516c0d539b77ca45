"""A layer's quota spread over its channels."""

from __future__ import annotations

import math
from collections.abc import Mapping

from autosparse.core.evidence import Evidence
from autosparse.core.graph.paths import channels_of
from autosparse.core.selection._base import selections
from autosparse.core.weights import Tensors
from autosparse.lazy_torch import torch


@selections.register
def balanced(scores: Tensors, quotas: Mapping[str, int], evidence: Evidence) -> Tensors:
    """As many weights for every input and output channel as the quota allows, the highest scores among them.

    Output channels differ by at most one, and so do the input channels of a group, unless weights pruned before
    leave no choice.
    Output channels choose one after the other, each its best weights from the inputs that were chosen least.
    """
    channels = channels_of(evidence)
    return {
        name: channels[name].gather(spread_evenly(channels[name].spread(values).cpu(), quotas[name])).to(values.device)
        for name, values in scores.items()
    }


def spread_evenly(scores: torch.Tensor, count: int) -> torch.Tensor:
    """A mask of `scores`, `[groups, outputs, inputs, kernel]`."""
    if bool(scores.isnan().any()):
        raise ValueError(f"{int(scores.isnan().sum())} of {scores.numel()} scores are not numbers")
    groups, outputs, inputs, kernel = scores.shape
    mask = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    quotas = _even_quotas(scores.reshape(groups * outputs, inputs * kernel), count).tolist()
    # Each input's weights to one output, the best first.
    ranked, places = scores.sort(dim=3, descending=True, stable=True)
    chosen = torch.zeros(groups, inputs, dtype=torch.int64, device=scores.device)
    for row, left in enumerate(quotas):
        group, output = divmod(row, outputs)
        taken = torch.zeros(inputs, dtype=torch.int64, device=scores.device)
        while left:
            best = ranked[group, output].gather(1, taken.clamp_max(kernel - 1)[:, None])[:, 0]
            best = best.masked_fill(taken == kernel, -math.inf)
            order = best.argsort(descending=True, stable=True)[: int((best > -math.inf).sum())]
            order = order[chosen[group, order].argsort(stable=True)][:left]
            mask[group, output, order, places[group, output, order, taken[order]]] = True
            taken[order] += 1
            chosen[group, order] += 1
            left -= len(order)
    return mask


def _even_quotas(scores: torch.Tensor, count: int) -> torch.Tensor:
    """How many of `[rows, weights]` each row keeps: one level for all, the rest to the rows that score best next."""
    alive = (scores > -math.inf).sum(dim=1)
    if count > int(alive.sum()):
        raise ValueError(f"{count} weights cannot be kept of the {int(alive.sum())} that are left")
    low, high = 0, scores.shape[1]
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if int(alive.clamp_max(middle).sum()) <= count else (low, middle - 1)
    quotas = alive.clamp_max(low)
    if left := count - int(quotas.sum()):
        following = scores.topk(low + 1, dim=1).values[:, low].masked_fill(alive <= low, -math.inf)
        quotas[following.argsort(descending=True, stable=True)[:left]] += 1
    return quotas
