"""Counts per layer: exact totals that are monotone in every layer."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from autosparse.core.allocation import Impossible, allocations, apportion, by_macs
from autosparse.core.selection import keep_top
from autosparse.core.weights import Layer, Tensors
from autosparse.errors import UsageError
from tests.unit.core.conftest import seeded


def layer(name: str, *shape: int) -> Layer:
    """A layer of which only name and shape matter."""
    return Layer(name, shape, fan_in=1, fan_out=1, kernel=shape[2:], stride=1, positions=1)


LAYERS = (layer("linear", 4, 2), layer("convolution", 2, 2, 3, 3))


def scores_of(*layers: Layer, seed: int = 0) -> Tensors:
    """Random scores in (0, 1)."""
    generator = seeded(seed)
    return {item.name: torch.rand(item.shape, generator=generator) for item in layers}


SHARES = st.one_of(st.integers(1, 50).map(float), st.floats(1e-6, 1e6))
PROBLEM = st.lists(st.tuples(SHARES, st.integers(1, 30)), min_size=1, max_size=6)


def unpack(problem: list[tuple[float, int]]) -> tuple[dict[str, float], dict[str, int]]:
    """Shares and capacity by layer."""
    shares = {str(index): share for index, (share, _) in enumerate(problem)}
    return shares, {str(index): room for index, (_, room) in enumerate(problem)}


@given(problem=PROBLEM)
@example(problem=[(0.3333333333333333, 2), (1.0, 5), (1.0, 5)])  # a third in floating point is a tie that is none
def test_apportion_is_exact_and_monotone(problem: list[tuple[float, int]]) -> None:
    """For every total counts add up to it, fit, and differ from the last total's by one seat in one layer."""
    shares, capacity = unpack(problem)
    every = [apportion(shares, capacity, total) for total in range(sum(capacity.values()) + 1)]

    for total, counts in enumerate(every):
        assert total == sum(counts.values())
        assert all(0 <= counts[name] <= capacity[name] for name in shares)
        assert list(shares) == list(counts)
    for fewer, more in pairwise(every):
        assert all(fewer[name] <= more[name] for name in shares)


@given(problem=PROBLEM, data=st.data())
def test_apportion_takes_the_highest_priorities(problem: list[tuple[float, int]], data: st.DataObject) -> None:
    """No seat that is taken after the first has a lower priority, share / (k + 1/2), than one that is free."""
    shares, capacity = unpack(problem)
    counts = apportion(shares, capacity, data.draw(st.integers(0, sum(capacity.values()))))

    free = [shares[name] / (counts[name] + 0.5) for name in shares if counts[name] < capacity[name]]
    prices = [shares[name] / (counts[name] - 0.5) for name in shares if counts[name] > 1]

    assert not free or not prices or max(free) <= min(prices) * (1 + 1e-9)


@given(problem=PROBLEM, data=st.data())
def test_every_layer_has_a_seat_before_any_has_two(problem: list[tuple[float, int]], data: st.DataObject) -> None:
    """With at least as many seats as layers no layer is empty; with fewer none has two."""
    shares, capacity = unpack(problem)
    total = data.draw(st.integers(0, sum(capacity.values())))
    counts = apportion(shares, capacity, total).values()

    assert min(counts) >= 1 if total >= len(problem) else max(counts, default=0) <= 1


def test_apportion_by_hand() -> None:
    """Shares of 5 to 3 to 1 split nine seats as 5, 3 and 1, and the first seats go to the largest shares."""
    shares, capacity = {"a": 1.0, "b": 5.0, "c": 3.0}, {"a": 9, "b": 9, "c": 9}

    assert {"a": 1, "b": 5, "c": 3} == apportion(shares, capacity, 9)
    assert {"a": 0, "b": 0, "c": 0} == apportion(shares, capacity, 0)
    assert {"a": 0, "b": 1, "c": 0} == apportion(shares, capacity, 1)
    assert {"a": 0, "b": 1, "c": 1} == apportion(shares, capacity, 2)
    assert {"a": 1, "b": 1, "c": 1} == apportion(shares, capacity, 3)


def test_equal_shares_fill_in_order() -> None:
    """Layers of equal share differ by at most one seat, and the first ones have it."""
    counts = apportion(dict.fromkeys("abcd", 0.1), dict.fromkeys("abcd", 9), 14)

    assert {"a": 4, "b": 4, "c": 3, "d": 3} == counts


def test_single_layer_takes_all() -> None:
    """A single layer gets every seat."""
    assert {"a": 7} == apportion({"a": 0.3}, {"a": 9}, 7)


def test_full_layer_passes_its_seats_on() -> None:
    """The excess of a full layer goes to the others in proportion."""
    counts = apportion({"full": 100.0, "b": 2.0, "c": 1.0}, {"full": 4, "b": 50, "c": 50}, 34)

    assert {"full": 4, "b": 20, "c": 10} == counts


def test_layers_without_room_or_share_get_nothing() -> None:
    """A layer of which nothing is left, or whose share is zero, stays empty."""
    counts = apportion({"gone": 5.0, "nothing": 0.0, "b": 1.0}, {"gone": 0, "nothing": 9, "b": 9}, 6)

    assert {"gone": 0, "nothing": 0, "b": 6} == counts


def test_more_seats_than_room_is_refused() -> None:
    """A total beyond the capacity is an error that names both numbers."""
    with pytest.raises(ValueError, match="11 cannot be placed in layers that hold 10"):
        apportion({"a": 1.0, "b": 2.0}, {"a": 5, "b": 5}, 11)


def test_apportion_is_proportional_over_any_range() -> None:
    """Next to a share of any size the others still split the rest in proportion."""
    counts = apportion({"a": 1e200, "b": 2e-12, "c": 1e-12}, {"a": 10, "b": 1000, "c": 1000}, 310)

    assert {"a": 10, "b": 200, "c": 100} == counts


def test_uniform_by_hand() -> None:
    """Uniform keeps the same share of every layer."""
    counts = allocations["uniform"].function(scores_of(*LAYERS), LAYERS, 22)

    assert {"linear": 4, "convolution": 18} == counts


def test_erk_by_hand() -> None:
    """ERK keeps in proportion to 4 + 2 and 2 + 2 + 3 + 3; a full layer leaves the rest to the other."""
    erk = allocations["erk"].function

    assert {"linear": 6, "convolution": 10} == erk(scores_of(*LAYERS), LAYERS, 16)
    assert {"linear": 8, "convolution": 24} == erk(scores_of(*LAYERS), LAYERS, 32)


def test_er_by_hand() -> None:
    """ER keeps in proportion to (4 + 2) and to (2 + 2) * 9."""
    er = allocations["er"].function

    assert {"linear": 3, "convolution": 18} == er(scores_of(*LAYERS), LAYERS, 21)


def test_igq_by_hand() -> None:
    """With a force of 1 / 8 layers of 8 and 24 keep 8 / (8 / 8 + 1) and 24 / (24 / 8 + 1); with none, everything."""
    layers = (layer("small", 8), layer("large", 24))
    igq = allocations["igq"].function

    assert {"small": 4, "large": 6} == igq(scores_of(*layers), layers, 10)
    assert {"small": 8, "large": 24} == igq(scores_of(*layers), layers, 32)
    assert {"small": 0, "large": 1} == igq(scores_of(*layers), layers, 1)


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_igq_follows_the_equation_and_never_rises(sizes: list[int]) -> None:
    """Every count is within one of n / (F n + 1) for one force F, and none falls when more are kept."""
    layers = tuple(layer(str(index), size) for index, size in enumerate(sizes))
    scores = scores_of(*layers)
    every = [allocations["igq"].function(scores, layers, keep) for keep in range(0, sum(sizes) + 1)]

    for fewer, more in pairwise(every):
        assert 1 == sum(more.values()) - sum(fewer.values())
        assert all(fewer[name] <= more[name] for name in more)
    for counts in every[len(sizes) :]:
        # Seats k - 1/2 and k + 1/2 of a layer have the forces 1 / (k -+ 1/2) - 1 / n; the first one is free.
        prices = [1 / (counts[item.name] - 0.5) - 1 / item.size for item in layers if counts[item.name] > 1]
        free = [1 / (counts[item.name] + 0.5) - 1 / item.size for item in layers if counts[item.name] < item.size]
        assert not prices or not free or max(free) <= min(prices) + 1e-9


FIXED = allocations["fixed"].function


def test_fixed_by_hand() -> None:
    """A named layer keeps its share to the weight, the others fill up the rest at one sparsity."""
    layers = (layer("stem.weight", 2, 5), layer("stage.0.weight", 4, 5), layer("stage.1.weight", 2, 5))
    scores = scores_of(*layers)

    assert {"stem.weight": 5, "stage.0.weight": 6, "stage.1.weight": 3} == FIXED(
        scores, layers, 14, layers={"stem": 0.5}
    )
    assert {"stem.weight": 2, "stage.0.weight": 10, "stage.1.weight": 8} == FIXED(
        scores, layers, 20, layers={"stage.*": 0.5, "stage.1.weight": 0.2}
    )


def test_fixed_refuses_the_impossible() -> None:
    """More or fewer weights than fixed layers leave room for, a pattern of nothing, and two patterns for a layer."""
    layers = (layer("stem.weight", 2, 5), layer("head.weight", 1, 5))
    scores = scores_of(*layers)

    for keep in (4, 11):
        with pytest.raises(Impossible, match=f"{keep} weights cannot be kept: .* keep 5 weights and the others hold 5"):
            FIXED(scores, layers, keep, layers={"stem": 0.5})
    with pytest.raises(UsageError, match="no layer matches `stm`") as refused:
        FIXED(scores, layers, 9, layers={"stm": 0.5})
    assert "did you mean `stem`?" == refused.value.hint
    with pytest.raises(UsageError, match=r"`stem\.weight` is given two sparsities, by st\* and \*em"):
        FIXED(scores, layers, 9, layers={"st*": 0.5, "*em": 0.4})


@given(share=st.floats(0, 0.99))
def test_fixed_is_exact_and_never_rises(share: float) -> None:
    """At every total that it takes counts add up and none falls when one more is kept."""
    layers = (layer("a", 10), layer("b", 9), layer("c", 6))
    given_sparsity = {"a": share}
    least = max(1, round((1 - share) * 10))
    for total in range(least, least + 15):
        fewer, more = (FIXED(scores_of(*layers), layers, count, layers=given_sparsity) for count in (total, total + 1))

        assert total == sum(fewer.values())
        assert least == fewer["a"] == more["a"]
        assert all(fewer[name] <= more[name] for name in more)


def test_fixed_within_multiply_adds() -> None:
    """A budget in multiply-adds looks only at numbers of weights that fixed layers take."""
    layers = (layer("stem", 10), layer("head", 10))

    assert {"stem": 5, "head": 3} == by_macs(partial(FIXED, layers={"stem": 0.5}))(scores_of(*layers), layers, 8)


def test_layer_mean_by_hand() -> None:
    """Layer mean keeps in proportion to the summed scores, of which negative and pruned ones count as zero."""
    layers = (layer("a", 2, 2), layer("b", 2, 2))
    scores = {"a": torch.tensor([[1.0, 2.0], [-9.0, -math.inf]]), "b": torch.tensor([[0.5, 0.25], [0.25, 0.0]])}

    assert {"a": 3, "b": 1} == allocations["layer_mean"].function(scores, layers, 4)


@given(
    first=st.lists(st.integers(-3, 3), min_size=1, max_size=12),
    second=st.lists(st.integers(-3, 3), min_size=1, max_size=12),
    data=st.data(),
)
def test_global_is_one_top_over_all_layers(first: list[int], second: list[int], data: st.DataObject) -> None:
    """Global counts are those of the highest scores of all layers in one row, ties and all."""
    keep = data.draw(st.integers(0, len(first) + len(second)))
    layers = (layer("a", len(first)), layer("b", len(second)))
    scores = {"a": torch.tensor(first).float(), "b": torch.tensor(second).float()}

    counts = allocations["global"].function(scores, layers, keep)

    top = keep_top(torch.tensor([*first, *second]).float(), keep)
    assert {"a": int(top[: len(first)].sum()), "b": int(top[len(first) :].sum())} == counts


@pytest.mark.parametrize("name", allocations.names)
@pytest.mark.parametrize("kind", ["random", "equal", "zero", "negative", "pruned", "huge"])
class TestEveryAllocation:
    """Whatever shares an allocation prefers, its counts are exact and monotone."""

    def scores(self, kind: str) -> Tensors:
        """Scores of one kind for three layers."""
        scores = scores_of(*LAYERS, layer("head", 1, 1))
        if kind == "equal":
            scores = {name: torch.full_like(part, 0.3) for name, part in scores.items()}
        elif kind == "zero":
            scores = {name: torch.zeros_like(part) for name, part in scores.items()}
        elif kind == "negative":
            scores = {name: -part for name, part in scores.items()}
        elif kind == "pruned":
            scores = {name: part.masked_fill(part < 0.4, -math.inf) for name, part in scores.items()}
        elif kind == "huge":
            scores = {name: part.double() ** 9 * 1e30 for name, part in scores.items()}
        return scores

    def test_counts_are_exact_and_never_rise_with_sparsity(self, name: str, kind: str) -> None:
        """Counts add up to every total, at most the present weights of a layer, and no layer ever loses one."""
        layers = (*LAYERS, layer("head", 1, 1))
        scores = self.scores(kind)
        alive = {key: int((part > -math.inf).sum()) for key, part in scores.items()}
        before = {key: part.clone() for key, part in scores.items()}

        every = [allocations[name].function(scores, layers, keep) for keep in range(sum(alive.values()) + 1)]

        for keep, counts in enumerate(every):
            assert keep == sum(counts.values())
            assert all(counts[key] <= alive[key] for key in scores)
        for fewer, more in pairwise(every):
            assert all(fewer[key] <= more[key] for key in scores)
        assert all(torch.equal(before[key], scores[key]) for key in scores)
