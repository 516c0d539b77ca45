"""Budgets in multiply-adds (MACs): how many weights they leave depends on which layers keep them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from autosparse.core.allocation import Allocation, Counts
from autosparse.core.cost import macs
from autosparse.core.weights import Layer, Tensors


def by_macs(allocate: Allocation) -> Allocation:
    """The same allocation told multiply-adds instead of weights: the most weights that do not exceed them.

    Found by bisection over the number of weights, since counts never fall when it rises; scores are made once.
    A schedule that counts multiply-adds in place of weights goes with it, so that every round costs one scoring
    as ever: what several rounds leave is not what they leave at the sparsity that comes out.
    """

    def within(scores: Tensors, layers: Sequence[Layer], limit: int) -> Counts:
        alive = sum(int((score > -math.inf).sum()) for score in scores.values())
        keep = largest(1, alive, lambda keep: macs(layers, allocate(scores, layers, keep)) <= limit)
        counts = allocate(scores, layers, keep)
        if (least := macs(layers, counts)) > limit:
            raise ValueError(f"one weight alone takes {least} multiply-adds, more than {limit}")
        return counts

    return within


def largest(low: int, high: int, fits: Callable[[int], bool]) -> int:
    """The largest number from `low` to `high` that fits, when all up to some number do; `low` if none does."""
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low
