"""Conformance: every registered network is scored, pruned and trained under its masks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import autosparse
from autosparse.core.weights import prunable_weights
from autosparse.models import build_model, models
from tests.unit.api.conftest import assert_scored

SHAPE, CLASSES = (3, 16, 16), 5


def built(name: str) -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    """A network, narrow where it has a width, and a batch for it."""
    torch.manual_seed(0)
    options = {"width": 8} if "width" in models[name].options else {}
    return build_model(name, options, SHAPE, CLASSES), [(torch.randn(4, *SHAPE), torch.randint(0, CLASSES, (4,)))]


@pytest.mark.parametrize("criterion", ["snip", "grasp", "synflow", "magnitude", "random"])
@pytest.mark.parametrize("name", models.names)
def test_every_criterion_scores(name: str, criterion: str) -> None:
    """Scores are finite, have the weights' shapes, and differ between weights."""
    assert_scored(*built(name), criterion)


@pytest.mark.parametrize("sparsity", [0.9, 0.99])
@pytest.mark.parametrize("name", models.names)
def test_masks_hold_through_a_training_step(name: str, sparsity: float) -> None:
    """The count is exact, and a step with momentum and weight decay leaves every masked weight zero."""
    model, batches = built(name)
    total = sum(weight.numel() for weight in prunable_weights(model).values())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    masks = autosparse.prune(model, batches, sparsity=sparsity, method="snip")

    with masks.hold(optimizer):
        nn.functional.cross_entropy(model(batches[0][0]), batches[0][1]).backward()
        optimizer.step()

    assert round((1 - sparsity) * total) == masks.kept
    for key, weight in prunable_weights(model).items():
        assert 0 == weight.detach()[~masks[key]].count_nonzero()
