"""Allocations by name: how many weights each layer keeps, as exact integers that never rise when sparsity rises.

An allocation is `(scores, layers, keep) -> {layer name: count}`, with counts that add up to `keep`. Weights
already pruned have score -inf and are never counted. `by_macs` turns it into one with a limit on multiply-adds (MACs).
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
    """A number of weights that an allocation cannot place: it takes from `least` to `most`."""

    def __init__(self, message: str, least: int, most: int) -> None:
        super().__init__(message)
        self.least, self.most = least, most


@allocations.register(name="global")
def global_threshold(scores: Tensors, layers: Sequence[Layer], keep: int) -> Counts:
    """One threshold over all layers: a layer keeps as many as score above it."""
    return kept(together({layer.name: scores[layer.name] for layer in layers}, lambda values: keep_top(values, keep)))


@allocations.register(source="the baseline of Gale et al. 2019")
def uniform(scores: Tensors, layers: Sequence[Layer], keep: int) -> Counts:
    """The same sparsity in every layer."""
    return apportion({layer.name: float(layer.size) for layer in layers}, _alive(scores), keep)


@allocations.register(source="Mocanu et al. 2018")
def er(scores: Tensors, layers: Sequence[Layer], keep: int) -> Counts:
    """Erdős-Rényi: in proportion to the sum of a layer's channels, in and out, times its kernel's area."""
    shares = {layer.name: float(sum(layer.shape[:2]) * math.prod(layer.shape[2:])) for layer in layers}
    return apportion(shares, _alive(scores), keep)


@allocations.register(source="Evci et al. 2020")
def erk(scores: Tensors, layers: Sequence[Layer], keep: int) -> Counts:
    """Erdős-Rényi kernel: a layer keeps in proportion to the sum of its dimensions."""
    return apportion({layer.name: float(sum(layer.shape)) for layer in layers}, _alive(scores), keep)


@allocations.register(source="Vysogorets & Kempe 2023, ideal gas quotas")
def igq(scores: Tensors, layers: Sequence[Layer], keep: int) -> Counts:
    """Ideal gas quotas: of n weights a layer keeps n / (F n + 1), F being one force that presses on all layers."""
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
        "the sparsity of each layer of a name or pattern, such as `stage1.*`; names go before patterns",
    ] = {},  # noqa: B006  # an option's default, which nothing changes
) -> Counts:
    """The sparsities that you give to layers by name; the same sparsity in all others."""
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
    """In proportion to a layer's summed score: all that a scorer knows of layers, nothing of weights."""
    shares = {layer.name: float(scores[layer.name].clamp_min(0).double().sum()) for layer in layers}
    return apportion({name: share + 1e-12 for name, share in shares.items()}, _alive(scores), keep)


def apportion(
    shares: Mapping[str, float], capacity: Mapping[str, int], total: int, *, limits: Mapping[str, int] | None = None
) -> Counts:
    """Split `total` in proportion to `shares`, at most `capacity` each: Sainte-Laguë, one each first.

    Seat k + 1 of a layer has priority share / (k + 1/2), and the `total` highest are taken, so that counts never fall
    when `total` rises (largest remainder breaks this). No layer is emptied while seats remain. A layer with a limit is
    the fuller, the dearer its seats: its part q is 1 / (1 / q + 1 / limit) instead.
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

    # Bisect the price of a seat, as a logarithm since shares may differ by any factor, to the cheapest one
    # at which no more than `total` are sold.
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
    # Seats that are dearer than that beyond any rounding are sold. The next ones go by their priorities as they are
    # computed, of equal ones in order: an order of all seats that knows no total.
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
    """Layer -> what was given by its name, with or without `.weight`, or by the one pattern that matches it."""
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
    """Multiply-adds for one example through the prunable layers, dense or with `kept` weights a layer."""
    return sum(layer.positions * (layer.size if kept is None else kept[layer.name]) for layer in layers)


def by_macs(allocate: Allocation) -> Allocation:
    """Return an allocation whose limit is multiply-adds (MACs): it keeps the most weights that do not exceed it.

    A schedule that counts multiply-adds goes with it; several rounds leave other weights than one at that sparsity.
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

    Cost never falls. Each turn guesses by interpolation, a little to either side, and halves what is left when that did
    not.
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
