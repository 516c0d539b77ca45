"""Survival labels from the masks of the rounds."""

from __future__ import annotations

from itertools import pairwise

import torch

from autosparse.core.irp import keep_after, prune_survivors
from autosparse.core.labels import survival
from autosparse.core.masks import kept
from autosparse.core.weights import Tensors
from tests.core.conftest import seeded


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


def test_one_round() -> None:
    """With a single round labels are the mask."""
    mask = torch.tensor([True, False])

    assert [1, 0] == survival([{"a": mask}])["a"].tolist()
