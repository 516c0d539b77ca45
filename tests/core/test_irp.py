"""One round of IRP: rewind everything, train, rank survivors, prune exactly."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autosparse.core.irp import Round, irp_round, keep_after, prune_survivors, rewind
from autosparse.core.masks import kept
from autosparse.core.training import Recipe, accuracy, train
from autosparse.core.weights import Tensors, prunable_weights, total_of
from tests.core.conftest import Small, all_ones, assert_same, images_of, random_masks, seeded, small, snapshot

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
) -> Round:
    """A short round from the initial state of `small()`."""
    return irp_round(
        build,
        snapshot(small()) if initial is None else initial,
        masks,
        number=number,
        per_round=per_round,
        training=images_of(20),
        validation=images_of(10, seed=1),
        recipe=SHORT,
        generator=seeded(seed),
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_rewind_restores_everything(optimizer: str) -> None:
    """After training every parameter and buffer had moved, and rewinding brings each back bit for bit."""
    network = small()
    initial = snapshot(network)
    recipe = Recipe(epochs=2, batch=8, lr=0.05, crop=1, optimizer="adamw" if optimizer == "adamw" else "sgd")
    train(network, images_of(20), recipe, seeded(), masks=random_masks(network))

    moved = {name for name, tensor in network.state_dict().items() if not torch.equal(initial[name], tensor)}
    again = rewind(network, initial)

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

    second = train(rewind(network, initial), images_of(20), SHORT, seeded())

    assert first == second
    assert_same(state, snapshot(network))


def test_rewind_needs_the_whole_state() -> None:
    """An initial state that lacks a tensor is refused."""
    initial = snapshot(small())
    del initial["norm.running_var"]

    with pytest.raises(RuntimeError, match="running_var"):
        rewind(Small(), initial)


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
    """A round is: rewind, train under the last masks, rank what is left by magnitude, measure before pruning."""
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
    """Survivors of all layers are ranked together, of equal ones the first stays, and what is gone stays gone."""
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
