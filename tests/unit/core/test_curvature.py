"""Diagonals of the Fisher matrix and the Hessian, by hand, by autograd and as the authors' code computes them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autosparse.core.criteria import criteria
from autosparse.core.inputs import in_batches
from tests.unit.core.conftest import SHAPE, assert_same, batch_of, evidence_of, small, snapshot
from tests.unit.core.test_agreement import assert_scores_agree, evidence


@pytest.mark.parametrize("saliency", ["diagonal", "damage", "taylor"])
@pytest.mark.parametrize("name", ["fisher", "hutchinson"])
def test_scores_are_the_authors(name: str, saliency: str) -> None:
    """Both diagonals and the scores made of them, one image at a time, with BatchNorm's statistics of one batch."""
    assert_scores_agree(f"{name}_{saliency}", criteria[name].function(evidence([(0, 16)]), saliency=saliency))


def test_fisher_by_hand() -> None:
    """Of gradients x of single images: the mean of squares, not the square of the mean."""
    network = nn.Linear(2, 1, bias=False)
    network.weight.data = torch.tensor([[1.0, -2.0]])
    inputs = torch.tensor([[1.0, 1.0], [3.0, -3.0]])
    given = evidence_of(network, (2,), batches=[(inputs, torch.zeros(2, dtype=torch.int64))])
    given = replace(given, objective=lambda outputs, labels: outputs.mean())

    scores = {
        (saliency, batch): criteria["fisher"].function(given, saliency=saliency, batch=batch)["weight"].tolist()
        for saliency in ("diagonal", "damage", "taylor")
        for batch in (1, 2)
    }

    assert [[5.0, 5.0]] == scores["diagonal", 1]
    assert [[4.0, 1.0]] == scores["diagonal", 2]
    assert [[2.5, 10.0]] == scores["damage", 1]
    assert [[2.0 + 2.5, 2.0 + 10.0]] == scores["taylor", 1]


def test_hutchinson_is_the_diagonal_of_the_hessian_in_the_mean() -> None:
    """With one weight exactly, with many in the mean over probes."""
    network = nn.Sequential(nn.Linear(3, 2, bias=False)).double()
    inputs, labels = batch_of((3,), images=6, classes=2)
    given = evidence_of(network, (3,), batches=[(inputs.double(), labels)])

    def loss(weights: Tensor) -> Tensor:
        return nn.functional.cross_entropy(inputs.double() @ weights.view(2, 3).T, labels)

    hessian = torch.autograd.functional.hessian(loss, given.weights["0.weight"].flatten())
    options = {"temperature": 1.0, "saliency": "diagonal", "batch": 6, "probes": 4000}
    scores = criteria["hutchinson"].function(given, **options)

    torch.testing.assert_close(hessian.diagonal(), scores["0.weight"].flatten(), rtol=0.1, atol=0.01)


@pytest.mark.parametrize("name", ["fisher", "hutchinson"])
def test_a_warm_up_changes_only_the_statistics_of_the_score(name: str) -> None:
    """The scores are those of a network that has the mean statistics of the batches; the network keeps its own."""
    network, warmed = small().double(), small().double().train()
    batches = [(x.double(), y) for x, y in (batch_of(SHAPE, 8, seed=1), batch_of(SHAPE, 5, seed=2))]
    before = snapshot(network)
    warmed.norm.momentum = None  # PyTorch's cumulative mean
    warmed.norm.reset_running_stats()
    with torch.no_grad():
        for inputs, _ in batches:
            warmed(inputs)

    scores = criteria[name].function(evidence_of(network, SHAPE, batches=batches))

    expected = criteria[name].function(evidence_of(warmed, SHAPE, batches=batches), warm_up=0)
    initial = criteria[name].function(evidence_of(network, SHAPE, batches=batches), warm_up=0)
    assert_same(before, snapshot(network))
    for key, values in scores.items():
        torch.testing.assert_close(expected[key], values)
    assert not torch.allclose(initial["stem.weight"], scores["stem.weight"])


def test_batches_are_cut_by_number() -> None:
    """Into batches of at most as many examples; what cannot be cut stays whole."""
    x, y = torch.arange(7.0), torch.arange(7)

    def sizes(batches: list[Any], examples: int) -> list[int]:
        return [len(inputs) for inputs, _ in in_batches(batches, examples)]

    assert [1] * 7 == sizes([(x, y)], 1)
    assert [3, 3, 1, 2] == sizes([(x, y), (x[:2], y[:2])], 3)
    assert [7] == sizes([(x, y[:3])], 2)


def test_the_price_counts_the_warm_up_and_the_probes() -> None:
    """A gradient for each image, a third for each image of the warm-up, and a Hessian product for each probe."""
    facts, options = criteria["hutchinson"].facts, {"images": 100, "warm_up": 600, "probes": 7}

    assert 3 == facts["gradients"](options) == criteria["fisher"].facts["gradients"](options)
    assert 7 == facts["hessian_products"](options)
