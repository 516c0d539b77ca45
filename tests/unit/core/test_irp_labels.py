"""Survival labels from the masks of the rounds."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from autosparse.core.irp import (
    keep_after,
    prune_survivors,
    round_by_round,
    rounds_that_learned,
    rounds_to_describe,
    survival,
)
from autosparse.core.weights import Tensors, kept
from tests.unit.core.conftest import SHAPE, assert_same, evidence_of, random_masks, seeded, small


def test_labels_by_hand() -> None:
    """A weight pruned in round n has label n - 1; one that was never pruned has the number of rounds."""
    rounds = [
        {"a": torch.tensor([[True, True], [False, True]]), "b": torch.tensor([True])},
        {"a": torch.tensor([[True, False], [False, True]]), "b": torch.tensor([False])},
        {"a": torch.tensor([[False, False], [False, True]]), "b": torch.tensor([False])},
    ]

    labels = survival(rounds)

    assert [[2, 1], [0, 3]] == labels["a"].tolist()
    assert [1] == labels["b"].tolist()
    assert ["a", "b"] == list(labels)
    assert torch.int16 == labels["a"].dtype


def test_histogram_counts_what_each_round_removed() -> None:
    """Over real rounds, bin n has as many weights as round n + 1 removed, and the last bin the survivors."""
    generator, rounds, masks = seeded(), list[Tensors](), None
    total = 60 + 40
    for number in range(1, 8):
        scores = {"a": torch.rand(6, 10, generator=generator), "b": torch.rand(40, generator=generator)}
        masks = prune_survivors(scores, masks, keep_after(total, 0.25, number))
        rounds.append(masks)
    counts = [total, *(sum(kept(each).values()) for each in rounds)]

    labels = survival(rounds)
    bins = torch.cat([part.flatten() for part in labels.values()]).long().bincount(minlength=8)

    assert [*(earlier - later for earlier, later in pairwise(counts)), counts[-1]] == bins.tolist()
    for number, each in enumerate(rounds, start=1):
        assert all(torch.equal(labels[name] >= number, mask) for name, mask in each.items())


@pytest.mark.parametrize(
    ("rounds", "most", "expected"),
    [(1, 8, [1]), (3, 8, [1, 2, 3]), (8, 8, [1, 2, 3, 4, 5, 6, 7, 8]), (16, 4, [1, 6, 11, 16]), (9, 1, [1])],
)
def test_rounds_to_describe_are_evenly_spread(rounds: int, most: int, expected: list[int]) -> None:
    """All of few rounds; of many as many as asked for, the first and the last among them, none twice."""
    assert expected == rounds_to_describe(rounds, most)


def test_rounds_are_described_as_they_find_the_network() -> None:
    """A round begins with the masks that the one before left: the first with all weights."""
    evidence = evidence_of(small(), SHAPE)
    rounds = [random_masks(evidence.model, share, seed=1) for share in (0.8, 0.5, 0.2)]  # nested, having one seed

    result = list(round_by_round(evidence, rounds, most=2))

    assert [1, 3] == [number for number, _, _ in result]
    assert_same(evidence.weights, result[0][1].weights)
    assert_same(rounds[0], result[0][2])
    assert_same(rounds[1], result[1][1].masks)
    assert_same({name: weight * rounds[1][name] for name, weight in evidence.weights.items()}, result[1][1].weights)
    assert_same(rounds[2], result[1][2])


def test_one_round() -> None:
    """With a single round labels are the mask."""
    mask = torch.tensor([True, False])

    assert [1, 0] == survival([{"a": mask}])["a"].tolist()


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ([60.0, 70.0, 65.0], 3),
        ([60.0, 70.0, 25.5, 24.0], 2),
        ([24.0, 70.0, 26.0, 60.0, 25.0], 4),
        ([25.0, 24.0], 0),
        ([60.0, 29.0], 1),
        ([60.0, 40.0], 2),
    ],
)
def test_rounds_without_a_network_that_learns_are_none(accuracies: list[float], expected: int) -> None:
    """Of four classes, a hundred images each, 25 % is chance and 31.5 % beyond its noise."""
    assert expected == rounds_that_learned(accuracies, torch.arange(4).repeat(100))


def test_chance_is_to_name_the_commonest_class() -> None:
    """If nine of ten images are of one class, 90 % is chance."""
    labels = (torch.arange(1000) % 10 == 0).long()

    assert rounds_that_learned([95.0, 90.0], labels) == 1
    assert rounds_that_learned([95.0, 94.0], labels) == 2
