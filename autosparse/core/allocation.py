"""How many weights each layer keeps: exact integers that never rise when sparsity rises.

An allocation is `(scores, layers, keep) -> {layer name: count}`, with counts that add up to `keep`. Weights
already pruned have score -inf and are never counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from autosparse.core.selection import keep_top
from autosparse.core.weights import Layer, Tensors
from autosparse.lazy import torch
from autosparse.registry import Registry

Counts: TypeAlias = "dict[str, int]"
Allocation: TypeAlias = Callable[..., Counts]
allocations: Registry[Allocation] = Registry("allocation", "allocations")


@allocations.register(name="global")
def global_threshold(scores: Tensors, layers: Sequence[Layer], keep: int) -> Counts:
    """One threshold over all layers: a layer keeps as many as score above it."""
    chosen = keep_top(torch.cat([scores[layer.name].flatten() for layer in layers]), keep)
    parts = chosen.split([layer.size for layer in layers])
    return {layer.name: int(part.sum()) for layer, part in zip(layers, parts, strict=True)}


@allocations.register
def uniform(scores: Tensors, layers: Sequence[Layer], keep: int) -> Counts:
    """The same sparsity in every layer."""
    return apportion({layer.name: float(layer.size) for layer in layers}, _alive(scores), keep)


@allocations.register
def erk(scores: Tensors, layers: Sequence[Layer], keep: int) -> Counts:
    """Erdős-Rényi kernel: a layer keeps in proportion to the sum of its dimensions (Evci et al. 2020)."""
    return apportion({layer.name: float(sum(layer.shape)) for layer in layers}, _alive(scores), keep)


@allocations.register
def layer_mean(scores: Tensors, layers: Sequence[Layer], keep: int) -> Counts:
    """In proportion to a layer's summed score: all that a scorer knows of layers, nothing of weights."""
    shares = {layer.name: float(scores[layer.name].clamp_min(0).double().sum()) for layer in layers}
    return apportion({name: share + 1e-12 for name, share in shares.items()}, _alive(scores), keep)


def apportion(shares: Mapping[str, float], capacity: Mapping[str, int], total: int) -> Counts:
    """Split `total` in proportion to `shares`, at most `capacity` each: Sainte-Laguë, one each first.

    A divisor method: seat k + 1 of a layer has priority share / (k + 1/2), and the `total` highest
    priorities are taken, so counts never fall when `total` rises (largest remainder breaks this). The
    first seat of every layer comes before all second ones: no layer is emptied while seats remain.
    """
    names = [name for name in shares if capacity[name] > 0 and shares[name] > 0]
    if total > sum(capacity[name] for name in names):
        raise ValueError(f"{total} cannot be placed in layers that hold {sum(capacity[name] for name in names)}")
    if total <= len(names):
        first = sorted(names, key=lambda name: -shares[name])[:total]
        return {name: int(name in first) for name in shares}

    def seats(logarithm: float) -> Counts:
        price = math.exp(logarithm)
        return {name: max(1, math.floor(min(capacity[name], shares[name] / price + 0.5))) for name in names}

    # Bisect the price of a seat, as a logarithm since shares may differ by any factor, to the cheapest one
    # at which no more than `total` are sold.
    low = min(math.log(shares[name]) - math.log(capacity[name] + 1) for name in names)
    high = max(math.log(shares[name]) for name in names) + 2
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if sum(seats(middle).values()) > total:
            low = middle
        else:
            high = middle
    counts = seats(high)
    # Seats of equal priority share one price: they go to the layers in order, one each, until none is left.
    while (left := total - sum(counts.values())) > 0:
        open_ = [name for name in names if counts[name] < capacity[name]]
        open_.sort(key=lambda name: -shares[name] / (counts[name] + 0.5))
        for name in open_[:left]:
            counts[name] += 1
    return {name: counts.get(name, 0) for name in shares}


def _alive(scores: Tensors) -> Counts:
    return {name: int((score > -math.inf).sum()) for name, score in scores.items()}
