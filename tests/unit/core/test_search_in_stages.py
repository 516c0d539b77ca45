"""One search for several budgets: nested masks, exact counts, and an order that holds all of them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch

from autosparse.core.schedule import Pruning, Search, _nested, schedules, search_in_stages
from autosparse.core.selection import keep_top
from autosparse.core.ticket import in_order
from autosparse.core.weights import Tensors, keep_count, kept
from tests.unit.core.conftest import SHAPE, assert_same, evidence_of, seeded, small
from tests.unit.core.test_schedule_search import pruning

SPARSITIES = (0.5, 0.8, 0.9, 0.95)


def options(**changed: Any) -> Search:
    """Options of a search of 16 steps."""
    usual = {name: option.default for name, option in schedules["search"].options.items()}
    return Search(**{**usual, "steps": 16, "lr": 0.1, "parts": 2, **changed})


def pruning_of(allocation: str = "erk", keep: int = 1) -> Pruning:
    """Magnitude at initialization in the quotas of an allocation."""
    return pruning(evidence_of(small(), SHAPE), keep, allocation=allocation)


def keeps_of(given: Pruning) -> list[int]:
    """The weights that each of the sparsities keeps."""
    return [keep_count(given.total, sparsity) for sparsity in SPARSITIES]


def test_one_stage_is_the_search() -> None:
    """The schedule `search` gives the masks of one stage."""
    given = pruning_of(keep=30)
    masks = schedules["search"].function(given, steps=16, lr=0.1, parts=2)
    [(made, scores)] = search_in_stages(pruning_of(), [30], options())

    assert_same(masks, made)
    assert all(bool(values.isfinite().all()) for values in scores.values())


@pytest.mark.parametrize(
    ("allocation", "changed"),
    [
        ("erk", {}),
        ("igq", {"steps": 3}),
        ("erk", {"relaxation": "concrete"}),
        ("global", {"quotas": "free"}),
        ("global", {"train_weights": False, "anneal": 0.0}),
    ],
)
def test_masks_are_nested_and_exact(allocation: str, changed: dict[str, Any]) -> None:
    """Each budget keeps its number of weights, all of them among those of the budget before."""
    given = pruning_of(allocation)
    made = [masks for masks, _ in search_in_stages(given, keeps_of(given), options(**changed))]

    assert keeps_of(given) == [sum(kept(masks).values()) for masks in made]
    for before, after in itertools.pairwise(made):
        assert not any(bool((after[name] & ~before[name]).any()) for name in after)


def test_a_search_learns_in_every_stage() -> None:
    """The last masks are not those that the first stage's scores would give."""
    given = pruning_of()
    (first, scores), *_, (last, _) = search_in_stages(given, keeps_of(given), options(score_lr=0.1))
    alone = {name: keep_top(scores[name].masked_fill(~first[name], -9e9), count) for name, count in kept(last).items()}

    assert any(not torch.equal(alone[name], last[name]) for name in last)


def test_the_order_holds_all_masks() -> None:
    """Within each layer the highest of the order are the mask of every budget."""
    given = pruning_of()
    made = search_in_stages(given, keeps_of(given), options())
    order = in_order(made)

    for masks, _ in made:
        assert_same(masks, top_of(order, kept(masks)))
    positions = torch.cat([part.flatten() for part in order.values()])
    assert torch.equal(torch.arange(len(positions)), positions.sort().values.long())


def test_positions_of_many_weights_are_exact() -> None:
    """Two million weights, more than float32 can separate: the masks of both stages are the highest positions."""
    count, generator = 2_000_000, seeded(3)
    scores = {"a": torch.rand(count, generator=generator, dtype=torch.float64)}
    first = {"a": keep_top(scores["a"], count // 2)}
    second = {"a": keep_top(scores["a"].masked_fill(~first["a"], -9.0), count // 3)}
    order = in_order([(first, scores), (second, scores)])

    assert_same(first, top_of(order, kept(first)))
    assert_same(second, top_of(order, kept(second)))


def top_of(order: Tensors, counts: dict[str, int]) -> Tensors:
    """Masks of the highest of each layer."""
    return {name: keep_top(values, counts[name]) for name, values in order.items()}


def test_a_search_in_stages_is_reproducible() -> None:
    """The same seed gives the same bytes; the network is left as it was."""
    given = pruning_of()
    before = {name: weight.clone() for name, weight in given.evidence.weights.items()}
    first = in_order(search_in_stages(given, keeps_of(given), options()))
    again = replace(given, evidence=replace(given.evidence, generator=seeded(given.evidence.generator.initial_seed())))

    assert_same(first, in_order(search_in_stages(again, keeps_of(given), options())))
    assert_same(before, given.evidence.weights)


def test_quotas_that_rounding_raised_move() -> None:
    """A layer never keeps more than at the budget before; where counts are weights their sum stays."""
    assert {"a": 3, "b": 2} == _nested({"a": 4, "b": 1}, {"a": 3, "b": 5}, exact=True)
    assert {"a": 3, "b": 1} == _nested({"a": 4, "b": 1}, {"a": 3, "b": 5}, exact=False)
