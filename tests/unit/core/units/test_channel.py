"""Whole channels as units: scores, masks, counts within a limit, and the smaller network, on networks read by hand."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from autosparse.core.allocation import Counts, allocations, macs
from autosparse.core.criteria import criteria
from autosparse.core.evidence import Evidence
from autosparse.core.schedule import Pruning, schedules
from autosparse.core.selection import selections
from autosparse.core.training.recipe import Recipe
from autosparse.core.units import units
from autosparse.core.units.channel import Channels
from autosparse.core.units.cost import in_macs, in_weights
from autosparse.core.weights import Tensors, describe_layers, kept, total_of
from tests.unit.core.conftest import SHAPE, batch_of, evidence_of, seeded, small


def channels(evidence: Evidence, **options: Any) -> Channels:
    """The channels of a network."""
    unit = units["channel"].function(evidence, **options)
    assert isinstance(unit, Channels)
    return unit


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    """The evidence of a small network whose layers count their positions."""
    return evidence_of(small(), SHAPE)


@pytest.fixture(scope="module")
def unit(evidence: Evidence) -> Channels:
    """Its channels, by default options."""
    return channels(evidence)


def test_groups_of_a_small_network(unit: Channels) -> None:
    """Every hidden width is a group; the inputs and the outputs are none."""
    assert {"stem": 4, "conv": 5, "hidden": 6} == {layer.name: layer.size for layer in unit.layers}


@pytest.mark.parametrize("aggregate", ["sum", "mean", "norm"])
def test_scores_by_hand(evidence: Evidence, unit: Channels, aggregate: Any) -> None:
    """A channel's score comes from the weights that compute it and those that read it."""
    made = replace(unit, aggregate=aggregate, normalize="none")
    scores = {name: weight.abs() for name, weight in evidence.weights.items()}
    mine = torch.cat([scores["hidden.weight"][2], scores["head.weight"][:, 2]])
    expected = {"sum": mine.sum(), "mean": mine.mean(), "norm": mine.square().mean().sqrt()}[aggregate]

    torch.testing.assert_close(expected, made.gather(scores)["hidden"][2, 0])


def test_normalized_scores_of_a_group_have_mean_one(evidence: Evidence, unit: Channels) -> None:
    """A global threshold then compares groups of any scale."""
    scores = {name: weight.abs() for name, weight in evidence.weights.items()}

    for values in unit.gather(scores).values():
        torch.testing.assert_close(torch.tensor(1.0), values.mean())


def test_masks_lie_between_kept_channels(evidence: Evidence, unit: Channels) -> None:
    """A weight stays if both its output and its input channel do."""
    chosen = {layer.name: torch.ones(layer.shape, dtype=torch.bool) for layer in unit.layers}
    chosen["conv"][1] = chosen["stem"][0] = False
    masks = unit.spread(chosen)
    expected = torch.ones(5, 4, 3, 3, dtype=torch.bool)
    expected[1], expected[:, 0] = False, False

    torch.testing.assert_close(expected, masks["conv.weight"])
    assert [[True] * 6, [False] * 6] == [masks["hidden.weight"][:, column].tolist() for column in (0, 1)]
    assert bool(masks["head.weight"].all())


def test_fractions_pass_gradients(unit: Channels) -> None:
    """The presence of a weight is the product of those of its channels."""
    leaves = {layer.name: torch.full(layer.shape, 0.5, requires_grad=True) for layer in unit.layers}
    presence = unit.spread(leaves)["conv.weight"]
    (gradient,) = torch.autograd.grad(presence.sum(), [leaves["conv"]])

    torch.testing.assert_close(torch.full((5, 4, 3, 3), 0.25), presence)
    torch.testing.assert_close(torch.full((5, 1), 0.5 * 4 * 9), gradient)


@pytest.mark.parametrize(
    ("of_macs", "allocation", "options"),
    [*itertools.product((False, True), ("global", "uniform", "igq"), ({}, {"least": 0.5}, {"multiple": 2}))],
)
def test_the_most_channels_within_a_limit(
    evidence: Evidence, unit: Channels, of_macs: bool, allocation: str, options: dict[str, Any]
) -> None:
    """Masks keep at most the limit, in weights or multiply-adds, and at least one channel of a group."""
    made = replace(unit, **options)
    scores = made.gather({name: weight.abs() for name, weight in evidence.weights.items()})
    allocate = made.limited(allocations[allocation].function, (in_macs if of_macs else in_weights)(evidence.layers))
    total = macs(evidence.layers) if of_macs else total_of(evidence.weights)
    before: Counts = {}
    for share in (0.6, 0.8, 1.0):
        counts = allocate(scores, made.layers, int(share * total))
        left = kept(made.spread(selections["top"].function(scores, counts, evidence)))
        amount = macs(evidence.layers, left) if of_macs else sum(left.values())

        assert amount <= share * total
        assert all(counts[name] >= max(1, made.least * len(scores[name])) for name in counts)
        assert all(counts[name] >= count for name, count in before.items())
        before = counts
    assert {name: len(values) for name, values in scores.items()} == counts


def test_an_impossible_limit_says_the_least(unit: Channels, evidence: Evidence) -> None:
    """One channel of every group takes some weights."""
    scores = unit.gather({name: weight.abs() for name, weight in evidence.weights.items()})

    with pytest.raises(ValueError, match=r"the fewest channels that every group keeps take \d+ weights"):
        unit.limited(allocations["uniform"].function, in_weights(evidence.layers))(scores, unit.layers, 5)


@pytest.mark.parametrize("criterion", ["random", "magnitude", "snip", "grasp", "synflow"])
@pytest.mark.parametrize("schedule", ["one_shot", "exponential", "search"])
def test_the_smaller_network_computes_the_masked_one(
    evidence: Evidence, unit: Channels, criterion: str, schedule: str
) -> None:
    """Criteria and schedules leave whole channels; without them the outputs are those of the masked network."""
    made = unit
    options = {"exponential": {"rounds": 3}, "search": {"steps": 2, "parts": 1}}.get(schedule, {})
    allocate = made.limited(allocations["global"].function, in_weights(evidence.layers))
    pruning = Pruning(
        streamed(evidence),
        total_of(evidence.weights),
        total_of(evidence.weights) // 2,
        criteria[criterion].function,
        allocate,
        selections["top"].function,
        recipe=Recipe(lr=0.1, precision="float32"),
        unit=made,
    )
    chosen = schedules[schedule].function(pruning, **options)
    masked, smaller = small(), made.slicing(chosen).start(small())
    with torch.no_grad():
        for name, mask in made.spread(chosen).items():
            masked.get_parameter(name).mul_(mask)
    inputs = torch.rand(4, *SHAPE, generator=seeded(1))

    assert sum(tensor.numel() for tensor in smaller.parameters()) < sum(one.numel() for one in masked.parameters())
    torch.testing.assert_close(masked.eval()(inputs), smaller.eval()(inputs))


def test_search_learns_scores_of_channels(evidence: Evidence, unit: Channels) -> None:
    """The mask search moves the scores of channels: more steps keep other ones."""
    made = unit
    allocate = made.limited(allocations["uniform"].function, in_weights(evidence.layers))
    total = total_of(evidence.weights)

    def searched(steps: int) -> Tensors:
        pruning = Pruning(
            streamed(evidence), total, total // 3, criteria["magnitude"].function, allocate,
            selections["top"].function, recipe=Recipe(lr=0.5, precision="float32"), unit=made,
        )  # fmt: skip
        return schedules["search"].function(pruning, steps=steps, score_lr=0.5, parts=1)

    assert any(not torch.equal(mask, searched(20)[name]) for name, mask in searched(1).items())


def test_rescaled_weights_have_the_variance_of_fewer_inputs(unit: Channels) -> None:
    """With a quarter of the inputs the initial weights double."""
    made = replace(unit, rescale=True)
    chosen = {layer.name: torch.ones(layer.shape, dtype=torch.bool) for layer in made.layers}
    chosen["stem"][1:] = False
    network = small()

    torch.testing.assert_close(
        2 * network.conv.weight[:, :1], made.slicing(chosen).start(network).get_parameter("conv.weight")
    )


def test_a_network_without_channels_is_refused() -> None:
    """A single layer has inputs and outputs only, and the reason says so."""
    model = nn.Linear(3, 2)
    lone = Evidence.dense(model, describe_layers(model), lambda images: [], seeded(), lambda: torch.zeros(1, 3))

    with pytest.raises(ValueError, match="no channels that may leave"):
        channels(lone)


def streamed(evidence: Evidence) -> Evidence:
    """The evidence with an endless stream of one batch."""

    def stream() -> Iterator[Any]:
        return itertools.repeat(batch_of(SHAPE))

    return replace(evidence, stream=stream, generator=seeded(3))
