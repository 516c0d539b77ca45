"""Budgets in multiply-adds (MACs): how many weights they leave depends on which layers keep them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from autosparse.core.allocation import Allocation, Counts, Impossible
from autosparse.core.cost import macs
from autosparse.core.weights import Layer, Tensors


def by_macs(allocate: Allocation) -> Allocation:
    """The same allocation told multiply-adds instead of weights: the most weights that do not exceed them.

    Found by looking at a few numbers of weights, since counts never fall when it rises; scores are made once.
    A schedule that counts multiply-adds in place of weights goes with it, so that every round costs one scoring
    as ever: what several rounds leave is not what they leave at the sparsity that comes out.
    """

    def within(scores: Tensors, layers: Sequence[Layer], limit: int) -> Counts:
        alive = sum(int((score > -math.inf).count_nonzero()) for score in scores.values())

        def cost(keep: int) -> int:
            return macs(layers, allocate(scores, layers, keep))

        try:
            keep = most_within(cost, limit, 1, alive)
        except Impossible as error:
            keep = most_within(cost, limit, max(1, error.least), error.most)
        counts = allocate(scores, layers, keep)
        if (least := macs(layers, counts)) > limit:
            weights = "one weight alone takes" if keep == 1 else f"{keep} weights take"
            raise ValueError(f"{weights} {least} multiply-adds, more than {limit}")
        return counts

    return within


def most_within(cost: Callable[[int], int], limit: int, low: int, high: int) -> int:
    """The largest number from `low` to `high` whose cost does not exceed `limit`; `low` if none does.

    The cost never falls. Each turn guesses by interpolation, a little to either side, and halves what is left when
    that did not: a cost that is about linear is known after a few looks, any other after a few times more.
    """
    below, above = cost(low), cost(high)
    if above <= limit:
        return high
    while below <= limit and high - low > 1:
        span = high - low
        guess, margin = low + (limit - below) * span // (above - below), span // 32 + 1
        for probe in (guess - margin, guess + margin, None):
            if probe is None and high - low > span // 2:
                probe = (low + high) // 2
            if probe is None or not low < probe < high:
                continue
            if (found := cost(probe)) <= limit:
                low, below = probe, found
            else:
                high, above = probe, found
    return low
