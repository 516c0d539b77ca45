"""Allocations by name: exact weight counts per layer that never rise when sparsity rises.

An allocation is `(scores, layers, keep) -> {layer name: count}`, with counts that add up to `keep`. Pruned weights
have score -inf and never count. `by_macs` turns an allocation into one limited in multiply-adds (MACs).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, TypeAlias

from annotated_types import Ge, Lt

from autosparse.core.layer_kinds import matches
from autosparse.core.selection import keep_top
from autosparse.core.weights import Layer, Tensors, keep_count, kept, together
from autosparse.errors import UsageError
from autosparse.registry import Registry, suggestion

Counts: TypeAlias = "dict[str, int]"
Allocation: TypeAlias = Callable[..., Counts]
allocations: Registry[Allocation] = Registry("allocation", "allocations")


class Impossible(ValueError):
    """Infeasible number of weights.

    Args:
        message: Contradiction in one sentence.
        least: Smallest number that the allocation can keep.
        most: Largest number that the allocation can keep.
    """

    def __init__(self, message: str, least: int, most: int) -> None:
        super().__init__(message)
        self.least, self.most = least, most


@allocations.register(name="global")
def global_threshold(scores: Tensors, layers: Sequence[Layer], keep: int) -> Counts:
    """Apply one threshold to all layers: a layer keeps the weights that score above it.

    Args:
        scores: Scores, layer -> tensor of the weight's shape; -inf marks pruned weights.
        layers: Layers in model order.
        keep: Number of weights to keep in all layers together.

    Returns:
        Number of weights to keep, layer -> count; counts add up to `keep`.

    Raises:
        ValueError: If a score is NaN or fewer than `keep` weights are present.
    """
    return kept(together({layer.name: scores[layer.name] for layer in layers}, lambda values: keep_top(values, keep)))


@allocations.register(source="the baseline of Gale et al. 2019")
def uniform(scores: Tensors, layers: Sequence[Layer], keep: int) -> Counts:
    """Apply the same sparsity to every layer.

    Args:
        scores: Scores, layer -> tensor of the weight's shape; -inf marks pruned weights.
        layers: Layers in model order.
        keep: Number of weights to keep in all layers together.

    Returns:
        Number of weights to keep, layer -> count; counts add up to `keep`.

    Raises:
        Impossible: If the layers hold fewer than `keep` present weights.

    Examples:
        >>> from autosparse import prune
        >>> from autosparse.lazy_torch import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Linear(16, 4))
        >>> masks = prune(model, sparsity=0.75, method={"criterion": "magnitude", "allocation": "uniform"})
        >>> [row.kept for row in masks.summary()]
        [64, 16]

    References:
        Baseline of Gale, Elsen & Hooker 2019, arXiv 1902.09574.
    """
    return apportion({layer.name: float(layer.size) for layer in layers}, _alive(scores), keep)


@allocations.register(source="Mocanu et al. 2018")
def er(scores: Tensors, layers: Sequence[Layer], keep: int) -> Counts:
    """Allocate in proportion to a layer's input plus output channels, times its kernel area (Erdős-Rényi).

    Args:
        scores: Scores, layer -> tensor of the weight's shape; -inf marks pruned weights.
        layers: Layers in model order.
        keep: Number of weights to keep in all layers together.

    Returns:
        Number of weights to keep, layer -> count; counts add up to `keep`.

    Raises:
        Impossible: If the layers hold fewer than `keep` present weights.

    References:
        Mocanu et al. 2018, arXiv 1707.04780.
    """
    shares = {layer.name: float(sum(layer.shape[:2]) * math.prod(layer.shape[2:])) for layer in layers}
    return apportion(shares, _alive(scores), keep)


@allocations.register(source="Evci et al. 2020")
def erk(scores: Tensors, layers: Sequence[Layer], keep: int) -> Counts:
    """Allocate in proportion to the sum of a layer's dimensions (Erdős-Rényi kernel).

    Args:
        scores: Scores, layer -> tensor of the weight's shape; -inf marks pruned weights.
        layers: Layers in model order.
        keep: Number of weights to keep in all layers together.

    Returns:
        Number of weights to keep, layer -> count; counts add up to `keep`.

    Raises:
        Impossible: If the layers hold fewer than `keep` present weights.

    Examples:
        >>> from autosparse import prune
        >>> from autosparse.lazy_torch import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Linear(16, 4))
        >>> masks = prune(model, sparsity=0.75, method={"criterion": "magnitude", "allocation": "erk"})
        >>> [row.kept for row in masks.summary()]
        [49, 31]

    References:
        Evci et al. 2020, arXiv 1911.11134.
    """
    return apportion({layer.name: float(sum(layer.shape)) for layer in layers}, _alive(scores), keep)


@allocations.register(source="Vysogorets & Kempe 2023, ideal gas quotas")
def igq(scores: Tensors, layers: Sequence[Layer], keep: int) -> Counts:
    """Allocate n / (F n + 1) weights to a layer of n, with one force F for all layers (ideal gas quotas).

    Args:
        scores: Scores, layer -> tensor of the weight's shape; -inf marks pruned weights.
        layers: Layers in model order.
        keep: Number of weights to keep in all layers together.

    Returns:
        Number of weights to keep, layer -> count; counts add up to `keep`.

    Raises:
        Impossible: If the layers hold fewer than `keep` present weights.

    References:
        Vysogorets & Kempe 2023, arXiv 2107.02306.
    """
    sizes = {layer.name: layer.size for layer in layers}
    return apportion(dict.fromkeys(sizes, 1.0), _alive(scores), keep, limits=sizes)


@allocations.register
def fixed(
    scores: Tensors,
    network: Sequence[Layer],
    keep: int,
    *,
    layers: Annotated[
        dict[str, Annotated[float, Ge(0), Lt(1)]],
        "sparsity by layer name or pattern, such as `stage1.*`; names take precedence over patterns",
    ] = {},  # noqa: B006  # an option's default, which nothing changes
) -> Counts:
    """Apply the sparsities given to layers by name, and one common sparsity to all others.

    Args:
        scores: Scores, layer -> tensor of the weight's shape; -inf marks pruned weights.
        network: Layers in model order.
        keep: Number of weights to keep in all layers together.
        layers: Sparsity in [0, 1) of layers by name or pattern, such as `{"stage1.*": 0.9}`; names go before patterns.

    Returns:
        Number of weights to keep, layer -> count; counts add up to `keep`.

    Raises:
        Impossible: If the named layers keep more than `keep`, or the others hold too few.
        UsageError: If a name matches no layer, or a layer has two sparsities.
    """
    alive = _alive(scores)
    given = _given([layer.name for layer in network], layers)
    named = {
        layer.name: min(alive[layer.name], max(1, keep_count(layer.size, given[layer.name])))
        for layer in network
        if layer.name in given
    }
    least, room = sum(named.values()), sum(alive[layer.name] for layer in network if layer.name not in given)
    if not least <= keep <= least + room:
        kept = f"the layers with a sparsity of their own keep {least} weights and the others hold {room}"
        raise Impossible(f"{keep} weights cannot be kept: {kept}", least, least + room)
    others = {layer.name: float(layer.size) for layer in network if layer.name not in given}
    return {**{layer.name: 0 for layer in network}, **apportion(others, alive, keep - least), **named}


@allocations.register
def layer_mean(scores: Tensors, layers: Sequence[Layer], keep: int) -> Counts:
    """Allocate in proportion to a layer's summed score, without ranking single weights.

    Args:
        scores: Scores, layer -> tensor of the weight's shape; -inf marks pruned weights.
        layers: Layers in model order.
        keep: Number of weights to keep in all layers together.

    Returns:
        Number of weights to keep, layer -> count; counts add up to `keep`.

    Raises:
        Impossible: If the layers hold fewer than `keep` present weights.
    """
    shares = {layer.name: float(scores[layer.name].clamp_min(0).double().sum()) for layer in layers}
    return apportion({name: share + 1e-12 for name, share in shares.items()}, _alive(scores), keep)


def apportion(
    shares: Mapping[str, float], capacity: Mapping[str, int], total: int, *, limits: Mapping[str, int] | None = None
) -> Counts:
    """Split `total` in proportion to `shares`, at most `capacity` each: Sainte-Laguë, one each first.

    Seat k + 1 of a layer has priority share / (k + 1/2). The `total` highest win, so that counts never fall when
    `total` rises (largest remainder violates this). No layer stays empty while seats remain. Seats of a layer with a
    limit cost more the fuller it is: its quota q becomes 1 / (1 / q + 1 / limit).
    """

    def wanted(name: str, price: float) -> float:
        return shares[name] / price if limits is None else 1 / (price / shares[name] + 1 / limits[name])

    def priority(name: str, count: int) -> float:
        return shares[name] / (count + 0.5) - (shares[name] / limits[name] if limits else 0)

    names = [name for name in shares if capacity[name] > 0 and shares[name] > 0]
    if total > (room := sum(capacity[name] for name in names)):
        raise Impossible(f"{total} cannot be placed in layers that hold {room}", 0, room)
    if total <= len(names):
        first = sorted(names, key=lambda name: -priority(name, 0))[:total]
        return {name: int(name in first) for name in shares}

    def seats(logarithm: float) -> Counts:
        price = math.exp(logarithm)
        return {name: max(1, math.floor(min(capacity[name], wanted(name, price) + 0.5))) for name in names}

    # Bisect the lowest price of a seat that sells at most `total`. Prices are logarithms, since shares may
    # differ by any factor.
    power = 1 if limits is None else 2
    low = min(math.log(shares[name]) - power * math.log(capacity[name] + 1) for name in names)
    high = max(math.log(shares[name]) for name in names) + 2
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if sum(seats(middle).values()) > total:
            low = middle
        else:
            high = middle
    # Sell the seats priced above that by more than rounding. Sell the rest by computed priority, ties in layer order:
    # this order of all seats does not depend on the total.
    counts = seats(high + 1e-6)
    next_ = [(-priority(name, counts[name]), index, name) for index, name in enumerate(names)]
    heapq.heapify(next_)
    left = total - sum(counts.values())
    while left:
        _, index, name = heapq.heappop(next_)
        if counts[name] < capacity[name]:
            counts[name] += 1
            left -= 1
            heapq.heappush(next_, (-priority(name, counts[name]), index, name))
    return {name: counts.get(name, 0) for name in shares}


def _alive(scores: Tensors) -> Counts:
    return {name: int((score > -math.inf).count_nonzero()) for name, score in scores.items()}


def _given(names: Sequence[str], layers: Mapping[str, float]) -> dict[str, float]:
    """Return layer -> sparsity given for its name, with or without `.weight`, or for the one matching pattern."""
    named: dict[str, list[str]] = {name: [] for name in names}
    for pattern in layers:
        matched = [name for name in names if matches(name, pattern)]
        if not matched:
            known = [_short(name) for name in names]
            hint = suggestion(pattern, known) or f"layers: {', '.join(known[:8])}{', ...' * (len(known) > 8)}"
            raise UsageError(f"no layer matches `{pattern}`", hint)
        for name in matched:
            named[name].append(pattern)
    for name, patterns in named.items():
        exact = [pattern for pattern in patterns if pattern in (name, _short(name))]
        if len(exact or patterns) > 1:
            raise UsageError(f"layer `{name}` is given two sparsities, by {' and '.join(exact or patterns)}")
        named[name] = exact or patterns
    return {name: layers[patterns[0]] for name, patterns in named.items() if patterns}


def _short(name: str) -> str:
    return name.removesuffix(".weight")


def macs(layers: Sequence[Layer], kept: Mapping[str, int] | None = None) -> int:
    """Return multiply-adds for one example through the prunable layers, dense or with `kept` weights a layer.

    Args:
        layers: Layers of the network.
        kept: Layer -> number of kept weights; None for the dense network.

    Returns:
        Multiply-adds (MACs) of one example.
    """
    return sum(layer.positions * (layer.size if kept is None else kept[layer.name]) for layer in layers)


def by_macs(allocate: Allocation) -> Allocation:
    """Return an allocation limited in multiply-adds (MACs): it keeps the most weights within the limit.

    Use it with a schedule that counts multiply-adds. Several rounds keep other weights than one at that sparsity.
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
    """Return the largest number from `low` to `high` whose cost does not exceed `limit`; `low` if none does.

    Cost never falls. Each iteration probes both sides of an interpolated guess, then bisects unless they halved the
    interval.
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
            if (price := cost(probe)) <= limit:
                low, below = probe, price
            else:
                high, above = probe, price
    return low
