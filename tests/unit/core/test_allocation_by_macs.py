"""Budgets in multiply-adds: by hand, against counting, and over rounds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from autosparse.core.allocation import allocations, by_macs, macs, most_within
from autosparse.core.schedule import linear_counts
from autosparse.core.selection import keep_top
from autosparse.core.weights import Layer, describe_layers

LAYERS = (Layer("a", (2, 2), 2, 2, (), 1, 10), Layer("b", (2, 3), 3, 2, (), 1, 1))
SCORES = {"a": torch.tensor([[9.0, 7.0], [2.0, 1.0]]), "b": torch.tensor([[8.0, 6.0, 5.0], [4.0, 3.0, 0.5]])}
GLOBAL = by_macs(allocations["global"].function)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (10, {"a": 1, "b": 0}),
        (11, {"a": 1, "b": 1}),
        (20, {"a": 1, "b": 1}),  # the next weight in order of scores takes ten
        (24, {"a": 2, "b": 4}),
        (25, {"a": 2, "b": 5}),
        (46, {"a": 4, "b": 6}),
        (1000, {"a": 4, "b": 6}),
    ],
)
def test_as_many_of_the_best_as_fit(limit: int, expected: dict[str, int]) -> None:
    """Weights of `a` take ten multiply-adds, those of `b` one; in order of scores they are a b a b b b b a a b."""
    assert expected == GLOBAL(SCORES, LAYERS, limit)


def test_a_budget_below_one_weight_is_refused() -> None:
    """The best weight alone takes ten."""
    with pytest.raises(ValueError, match="one weight alone takes 10 multiply-adds, more than 9"):
        GLOBAL(SCORES, LAYERS, 9)


def test_pruned_weights_cost_nothing() -> None:
    """Weights with score -inf are pruned: only the present ones cost."""
    left = {"a": torch.tensor([[9.0, -torch.inf], [-torch.inf] * 2]), "b": SCORES["b"]}

    assert {"a": 1, "b": 6} == GLOBAL(left, LAYERS, 100)


@pytest.mark.parametrize("name", allocations.names)
@pytest.mark.parametrize("limit", [30, 300, 3_000, 30_000])
def test_no_more_weights_would_fit(name: str, limit: int) -> None:
    """For every allocation the counts stay within the budget, and those of one more weight do not."""
    draw = torch.Generator().manual_seed(3)
    layers = tuple(
        Layer(f"{n}", (size, 5), 5, size, (), 1, uses) for n, (size, uses) in enumerate([(7, 9), (40, 25), (300, 1)])
    )
    scores = {layer.name: torch.rand(layer.shape, generator=draw) for layer in layers}
    allocate = allocations[name].function
    counts = by_macs(allocate)(scores, layers, limit)
    keep = sum(counts.values())

    assert macs(layers, counts) <= limit
    assert counts == allocate(scores, layers, keep)
    dense = sum(layer.size for layer in layers)
    assert keep == dense or macs(layers, allocate(scores, layers, keep + 1)) > limit


def test_rounds_count_multiply_adds() -> None:
    """A linear schedule over 46 multiply-adds to 10 in two rounds leaves 28, then the ten of the best weight."""
    left = {name: scores.clone() for name, scores in SCORES.items()}
    rounds = []
    for limit in linear_counts(macs(LAYERS), 10, 2):
        counts = GLOBAL(left, LAYERS, limit)
        left = {n: s.masked_fill(~keep_top(s, counts[n]), -torch.inf) for n, s in left.items()}
        rounds.append((limit, macs(LAYERS, counts)))

    assert [(28, 25), (10, 10)] == rounds


@given(st.lists(st.integers(0, 50), min_size=2, max_size=200), st.integers(0, 5000))
def test_the_search_is_exact(rises: list[int], limit: int) -> None:
    """Whatever the cost's shape, the number found is that of counting up."""
    costs = [sum(rises[: n + 1]) for n in range(len(rises))]
    expected = max([0, *(n for n, cost in enumerate(costs) if cost <= limit)])

    assert expected == most_within(costs.__getitem__, limit, 0, len(costs) - 1)


def test_few_looks_at_a_smooth_cost() -> None:
    """Each look is an allocation over all weights: millions of numbers are searched in about a dozen."""
    looks: list[int] = []

    def cost(keep: int) -> int:
        looks.append(keep)
        return int(keep**1.2)

    largest = most_within(cost, 10**7, 1, 11_000_000)

    assert int(largest**1.2) <= 10**7 < int((largest + 1) ** 1.2)
    assert len(looks) <= 16


NETWORK = describe_layers(
    nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Flatten(), nn.Linear(3 * 16, 5)), torch.zeros(1, 2, 4, 4)
)


def test_dense_network() -> None:
    """Each of 54 kernel weights is used at 16 positions, each of 240 linear ones once."""
    assert 54 * 16 + 240 == macs(NETWORK)


def test_sparse_network() -> None:
    """Only kept weights cost, each as often as it is used."""
    assert 10 * 16 + 7 == macs(NETWORK, {"0.weight": 10, "2.weight": 7})
    assert 0 == macs(NETWORK, {"0.weight": 0, "2.weight": 0})
    assert macs(NETWORK) == macs(NETWORK, {layer.name: layer.size for layer in NETWORK})
