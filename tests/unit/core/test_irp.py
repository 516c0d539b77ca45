"""One round of IRP: rewind everything, train, rank survivors, prune exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from autosparse.core.irp import (
    PerRoundOf,
    RankBy,
    Round,
    irp_round,
    keep_after,
    prune_survivors,
    rounds_to,
    survival_order,
)
from autosparse.core.training.loop import accuracy, train
from autosparse.core.training.recipe import Recipe
from autosparse.core.weights import Tensors, kept, load_state, prunable_weights, total_of
from tests.unit.core.conftest import Small, all_ones, assert_same, images_of, random_masks, seeded, small, snapshot

SHORT = Recipe(epochs=2, batch=8, lr=0.05, crop=1, precision="float32")
TOTAL = total_of(prunable_weights(small()))


def one_round(
    number: int,
    masks: Tensors | None,
    *,
    per_round: float = 0.3,
    build: Callable[[], Small] = Small,
    initial: Tensors | None = None,
    seed: int = 0,
    rank_by: RankBy = "magnitude",
    begin: int = 0,
) -> Round:
    """A short round from the initial state of `small()`."""
    return irp_round(
        build,
        snapshot(small()) if initial is None else initial,
        masks,
        keep=keep_after(TOTAL, per_round, number),
        training=images_of(20),
        validation=images_of(10, seed=1),
        recipe=SHORT,
        generator=seeded(seed),
        rank_by=rank_by,
        begin=begin,
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_rewind_restores_everything(optimizer: str) -> None:
    """After training every parameter and buffer had moved, and rewinding brings each back bit for bit."""
    network = small()
    initial = snapshot(network)
    recipe = Recipe(epochs=2, batch=8, lr=0.05, crop=1, optimizer="adamw" if optimizer == "adamw" else "sgd")
    train(network, images_of(20), recipe, seeded(), masks=random_masks(network))

    moved = {name for name, tensor in network.state_dict().items() if not torch.equal(initial[name], tensor)}
    again = load_state(network, initial)

    assert set(initial) == moved
    assert {"norm.weight", "norm.bias", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"} < moved
    assert_same(initial, snapshot(again))
    assert all(initial[name].data_ptr() != tensor.data_ptr() for name, tensor in again.state_dict().items())


def test_rewound_network_trains_as_a_fresh_one() -> None:
    """Nothing of an earlier training is left after a rewind: the second one gives the same bits as the first."""
    network = small()
    initial = snapshot(network)
    first = train(network, images_of(20), SHORT, seeded())
    state = snapshot(network)

    second = train(load_state(network, initial), images_of(20), SHORT, seeded())

    assert first == second
    assert_same(state, snapshot(network))


def test_rewind_needs_the_whole_state() -> None:
    """An initial state that lacks a tensor is refused."""
    initial = snapshot(small())
    del initial["norm.running_var"]

    with pytest.raises(RuntimeError, match="running_var"):
        load_state(Small(), initial)


def test_rounds_keep_exactly_and_nest() -> None:
    """Round n keeps round((1 - p) ** n * total) weights, all of them survivors of round n - 1."""
    masks: Tensors | None = None
    for number in range(1, 5):
        result = one_round(number, masks)
        before = all_ones(small()) if masks is None else masks

        assert round(0.7**number * TOTAL) == sum(kept(result.masks).values())
        assert list(before) == list(result.masks)
        assert all(not bool((result.masks[name] & ~before[name]).any()) for name in before)
        masks = result.masks


def test_round_trains_from_the_initial_state_under_its_masks() -> None:
    """A round: rewind, train under the last masks, rank the present weights by magnitude, measure before pruning."""
    masks = random_masks(small(), share=0.7)
    expected = small()
    losses = train(expected, images_of(20), SHORT, seeded(3), masks=masks)
    weights = prunable_weights(expected)
    survivors = torch.cat([weight.abs()[masks[name]] for name, weight in weights.items()]).sort(descending=True).values

    result = one_round(2, masks, seed=3)

    keep = round(0.7**2 * TOTAL)
    assert losses == result.losses
    assert_same({name: weight.detach().abs() for name, weight in weights.items()}, result.scores)
    assert accuracy(expected, images_of(10, seed=1), "float32") == result.validation_accuracy
    for name, weight in weights.items():
        assert torch.equal(masks[name] & (weight.abs() >= survivors[keep - 1]), result.masks[name])


def test_round_modifies_nothing_it_is_given() -> None:
    """The initial state and the last masks are as they were, and the global generator is not used for training."""
    initial, masks = snapshot(small()), random_masks(small(), share=0.9)
    copies = {name: tensor.clone() for name, tensor in initial.items()}, {name: m.clone() for name, m in masks.items()}

    one_round(2, masks, initial=initial)

    assert_same(copies[0], initial)
    assert_same(copies[1], masks)


def test_round_is_deterministic() -> None:
    """The same inputs give the same round bit for bit, whatever weights the fresh network came with."""
    first = one_round(1, None, build=lambda: small(8))
    second = one_round(1, None, build=lambda: small(9))
    other = one_round(1, None, seed=1)

    assert_same(first.masks, second.masks)
    assert_same(first.scores, second.scores)
    assert first.losses == second.losses
    assert first.losses != other.losses


def test_keep_after_by_hand() -> None:
    """A quarter a round leaves 75, 56 and 42 of a hundred; nothing a round leaves all."""
    assert [75, 56, 42] == [keep_after(100, 0.25, number) for number in (1, 2, 3)]
    assert 100 == keep_after(100, 0.0, 5)
    assert 1 == keep_after(1, 0.25, 1)


@given(total=st.integers(1, 10**8), per_round=st.floats(0.0, 0.99), number=st.integers(1, 60))
def test_rounds_never_keep_more_than_the_last(total: int, per_round: float, number: int) -> None:
    """The counts of the rounds never rise."""
    assert 0 <= keep_after(total, per_round, number + 1) <= keep_after(total, per_round, number) <= total


def test_prune_survivors_by_hand() -> None:
    """Survivors of all layers are ranked together, the first of equal ones stays, and pruned weights stay pruned."""
    scores = {"a": torch.tensor([[3.0, 9.0], [1.0, 2.0]]), "b": torch.tensor([2.0, 2.0, 0.0])}
    masks = {"a": torch.tensor([[True, False], [True, True]]), "b": torch.tensor([True, True, True])}

    result = prune_survivors(scores, masks, 3)

    assert [[True, False], [False, True]] == result["a"].tolist()
    assert [True, False, False] == result["b"].tolist()
    assert [[True, True], [True, True]] == prune_survivors(scores, None, 7)["a"].tolist()


def test_survivors_that_trained_to_zero_are_ranked_above_pruned_ones() -> None:
    """A survivor of magnitude zero is kept before any weight that was pruned."""
    masks = {"a": torch.tensor([False, True, True])}

    assert [False, True, True] == prune_survivors({"a": torch.zeros(3)}, masks, 2)["a"].tolist()
    with pytest.raises(ValueError, match="3 weights cannot be kept of the 2"):
        prune_survivors({"a": torch.zeros(3)}, masks, 3)


def trained() -> Small:
    """Return the network that a short round ranks, after its training."""
    network = small()
    train(network, images_of(20), SHORT, seeded())
    return network


def test_what_weights_are_ranked_by() -> None:
    """By hand from the weights before and after: |w|, |w - w0|, |w| - |w0|."""
    first, last = prunable_weights(small()), prunable_weights(trained())
    for name, before in first.items():
        weight = last[name].detach()
        assert torch.equal((weight - before).abs(), one_round(1, None, rank_by="movement").scores[name])
        increase = one_round(1, None, rank_by="magnitude_increase").scores[name]
        assert torch.equal(weight.abs() - before.abs(), increase)


class Viewing(nn.Module):
    """A network whose code takes the default memory layout alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(4 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.conv(x).view(len(x), -1))
        return outputs


def test_snip_ranks_a_network_of_one_memory_layout() -> None:
    """A network that trains is ranked."""
    network = Viewing()
    weights = prunable_weights(network)
    result = irp_round(
        Viewing,
        snapshot(network),
        None,
        keep=50,
        training=images_of(20),
        validation=images_of(10, seed=1),
        recipe=SHORT,
        generator=seeded(),
        rank_by="snip",
    )

    assert {name: weight.shape for name, weight in weights.items()} == {n: s.shape for n, s in result.scores.items()}
    assert 50 == sum(int(mask.sum()) for mask in result.masks.values())


def test_snip_ranks_by_the_gradient_where_training_has_led() -> None:
    """Scores are |w g| of the trained network, in evaluation mode, over the existing images."""
    network = trained()
    network.eval()
    scores = one_round(1, None, rank_by="snip").scores
    images = images_of(20)
    outputs = network(torch.cat([inputs for inputs, _ in images.in_order(20)]))
    loss = torch.nn.functional.cross_entropy(outputs, images.labels)
    weights = prunable_weights(network)
    gradient = torch.autograd.grad(loss, list(weights.values()))

    for (name, weight), part in zip(weights.items(), gradient, strict=True):
        torch.testing.assert_close((weight * part).abs(), scores[name], rtol=1e-3, atol=1e-7)


def test_a_pruned_weight_never_comes_back_whatever_ranks() -> None:
    """Scores below zero and scores of pruned weights change nothing."""
    masks = random_masks(small(), share=0.7)
    for rank_by in get_args(RankBy):
        result = one_round(2, masks, rank_by=rank_by)
        assert not any(bool((result.masks[name] & ~masks[name]).any()) for name in masks)
        assert keep_after(TOTAL, 0.3, 2) == sum(kept(result.masks).values())


def test_rounds_that_begin_later_see_what_is_left_of_the_training() -> None:
    """From the state after two of six steps, with plain SGD: the end is that of the whole training, bit for bit."""
    plain = replace(SHORT, momentum=0.0, nesterov=False)
    whole, first = small(), small()
    train(whole, images_of(20), plain, seeded())
    train(first, images_of(20), plain, seeded(), end=2)
    state = snapshot(first)
    rest = load_state(Small(), state)
    train(rest, images_of(20), plain, seeded(), begin=2)

    assert any(not torch.equal(state[name], tensor) for name, tensor in snapshot(small()).items())
    assert_same(snapshot(whole), snapshot(rest))


def test_a_linear_schedule_by_hand() -> None:
    """A tenth of all in every round leaves 900, 800, 700; thirds of 100 round from the start: 67, 33, 0."""
    assert [900, 800, 700] == [keep_after(1000, 0.1, number, "all") for number in (1, 2, 3)]
    assert [67, 33, 0] == [keep_after(100, 1 / 3, number, "all") for number in (1, 2, 3)]


@given(
    total=st.integers(2, 10**7),
    per_round=st.floats(0.01, 0.9),
    share=st.floats(0.0, 1.0),
    of=st.sampled_from(["remaining", "all"]),
)
def test_rounds_tell_exactly_which_weights_are_left(total: int, per_round: float, share: float, of: PerRoundOf) -> None:
    """The last round leaves no more than asked for, or another would leave none; the one before leaves more."""
    keep = max(1, round(share * total))
    number = rounds_to(total, per_round, keep, of)

    assert keep_after(total, per_round, number, of) <= keep or keep_after(total, per_round, number + 1, of) < 1
    assert number == 1 or keep_after(total, per_round, number - 1, of) > keep


def test_an_order_of_all_weights_by_hand() -> None:
    """Removed first is last; inside a round by its scores, of equal ones the first is higher; no two are alike."""
    first = (
        {"a": torch.tensor([True, True, False]), "b": torch.tensor([True, False])},
        {
            "a": torch.tensor([5.0, 4.0, 1.0]),
            "b": torch.tensor([3.0, 1.0]),
        },
    )
    second = (
        {"a": torch.tensor([True, False, False]), "b": torch.tensor([True, False])},
        {
            "a": torch.tensor([7.0, 2.0, 99.0]),
            "b": torch.tensor([9.0, 99.0]),
        },
    )
    order = survival_order([first, second])
    places = torch.cat([order["a"], order["b"]]).argsort(descending=True).tolist()

    assert [3, 0, 1, 2, 4] == places
    assert 5 == len(set(torch.cat([order["a"], order["b"]]).tolist()))


def test_the_highest_of_the_order_are_what_each_round_left() -> None:
    """For every round, as many weights as it kept: exactly its masks."""
    rounds, masks = [], None
    for number in range(1, 5):
        result = one_round(number, masks)
        masks = result.masks
        rounds.append((result.masks, result.scores))
    order = survival_order(rounds)

    for left, _ in rounds:
        assert_same(left, prune_survivors(order, None, sum(kept(left).values())))
