"""Scores from the trace of the neural tangent kernel: by hand, by autograd and as the authors' code computes them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autosparse.core.criteria import criteria
from autosparse.core.weights import Tensors
from tests.unit.core.conftest import SHAPE, assert_same, batch_of, evidence_of, seeded, small, snapshot
from tests.unit.core.test_agreement import assert_scores_agree, evidence


def test_ntk_sap_is_the_authors() -> None:
    """Two samples of weights, inputs and perturbations, drawn in the order of their code."""
    assert_scores_agree("ntk_sap", criteria["ntk_sap"].function(evidence([(0, 16)]), samples=2))


@pytest.mark.parametrize("masked", [False, True])
def test_ntk_sap_is_the_gradient_in_the_masks(masked: bool) -> None:
    """Of the squared change of the outputs under a perturbation, with the masks as variables; pruned weights too."""
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    masks = {"0.weight": torch.rand(4, 3, generator=seeded(1)) > 0.5, "2.weight": torch.ones(2, 4, dtype=torch.bool)}
    given = evidence_of(network, (3,), batches=[(torch.zeros(5, 3).double(), None)], masks=masks if masked else None)
    generator = seeded(0)
    draws = [torch.randn(shape, generator=generator).double() for shape in ((4, 3), (2, 4), (5, 3), (4, 3), (2, 4))]
    first, second = draws[0] * (2 / 3) ** 0.5, draws[1] * (2 / 4) ** 0.5
    present = [mask.double().requires_grad_() for mask in given.masks.values()]

    def outputs(one: Tensor, other: Tensor) -> Tensor:
        hidden = nn.functional.linear(draws[2], one * present[0], network.get_parameter("0.bias"))
        return nn.functional.linear(hidden.relu(), other * present[1], network.get_parameter("2.bias"))

    change = outputs(first, second) - outputs(first + 0.1 * draws[3], second + 0.1 * draws[4])
    expected = torch.autograd.grad(change.square().sum(), present)

    scores = criteria["ntk_sap"].function(given, samples=1, epsilon=0.1)

    for part, values in zip(expected, scores.values(), strict=True):
        torch.testing.assert_close(part.abs(), values)
    assert bool((scores["0.weight"][~masks["0.weight"]] > 0).any())


def test_ntk_sap_with_the_weights_of_the_network() -> None:
    """`given` scores these weights, `fresh` none of them; neither looks at the images or at the statistics."""
    network, other = small(), small(seed=1)
    images = [batch_of(SHAPE, 8, seed=1)]

    def scores(network: nn.Module, weights: str, images: list[tuple[Tensor, Tensor]] = images) -> Tensors:
        result: Tensors = criteria["ntk_sap"].function(evidence_of(network, SHAPE, batches=images), weights=weights)
        return result

    before = snapshot(network)
    of_given = scores(network, "given")
    moved = small()
    moved.get_buffer("norm.running_mean").add_(1.0)

    assert_same(of_given, scores(network, "given", [batch_of(SHAPE, 8, seed=2)]))
    assert_same(of_given, scores(moved, "given"))
    assert_same(before, snapshot(network))
    assert not torch.allclose(of_given["stem.weight"], scores(other, "given")["stem.weight"])
    for name, parameter in other.named_parameters():
        if parameter.ndim == 1:
            parameter.data = network.get_parameter(name).data
    assert_same(scores(network, "fresh"), scores(other, "fresh"))


def test_ntk_sap_of_outputs_by_name() -> None:
    """Every floating-point output counts, a loss that the network computes does not."""

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 2, bias=False)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            logits = self.inner(x)
            return {"loss": 100 * logits.sum(), "logits": logits}

    network = Named()
    named = criteria["ntk_sap"].function(evidence_of(network, (3,)))["inner.weight"]
    plain = criteria["ntk_sap"].function(evidence_of(network.inner, (3,)))["weight"]

    assert torch.equal(plain, named)
