"""Scores from the trace of the neural tangent kernel: by hand, by autograd and as the authors' code computes them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autosparse.core.criteria import criteria
from autosparse.core.evidence import Evidence
from autosparse.core.weights import Tensors
from autosparse.errors import UsageError
from tests.unit.core.conftest import SHAPE, assert_same, batch_of, evidence_of, random_masks, seeded, small, snapshot
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


def test_px_is_the_authors() -> None:
    """Without BatchNorm, which is neutral at initialization, up to one factor."""
    assert_scores_agree("px", criteria["px"].function(evidence([(0, 16)])))


def px(given: Evidence) -> Tensors:
    """Return the scores of the default options."""
    scores: Tensors = criteria["px"].function(given)
    return scores


def test_px_of_two_layers_by_hand() -> None:
    """The only active hidden unit is the first: 1 * 1 - 3 * 0 is positive, -2 * 1 is not."""
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    network[0].weight.data = torch.tensor([[1.0, -3.0], [-2.0, 4.0]])
    network[2].weight.data = torch.tensor([[5.0, 6.0]])

    scores = px(evidence_of(network, (2,), batches=[(torch.tensor([[1.0, 0.0]]), None)]))

    # g = 1, the square of the first input; h = (1 + 9) 25 + (4 + 16) 36 is a sum over all paths.
    assert [[25.0, 225.0], [144.0, 576.0]] == scores["0.weight"].tolist()
    assert [[250.0, 720.0]] == scores["2.weight"].tolist()


def test_px_sums_over_images_and_their_active_paths() -> None:
    """The output that more active paths reach counts more; only present weights make paths."""
    network = small().double()
    inputs, labels = batch_of(SHAPE, 8)
    masks = random_masks(network)
    whole, split = (
        evidence_of(network, SHAPE, batches=batches, masks=masks)
        for batches in ([(inputs.double(), labels)], [(inputs[:3].double(), None), (inputs[3:].double(), None)])
    )
    scores = px(whole)

    expected = {}
    kept = {name: mask.double() for name, mask in masks.items()}
    stem, conv, hidden, head = (weight for weight in whole.weights.values())
    norm = network.norm
    first = nn.functional.conv2d(inputs.double(), stem, padding=1)
    first = norm.eval()(first)
    second = nn.functional.conv2d(first.relu(), conv, network.conv.bias, stride=2, padding=1)
    third = nn.functional.linear(second.relu().mean(dim=(2, 3)), hidden, network.hidden.bias)
    flow = nn.functional.conv2d(inputs.double().square(), kept["stem.weight"], padding=1) * (first > 0)
    flow = nn.functional.conv2d(flow, kept["conv.weight"], stride=2, padding=1) * (second > 0)
    active = (flow.mean(dim=(2, 3)) @ kept["hidden.weight"].T * (third > 0) @ kept["head.weight"].T).sum(dim=0)
    squares = [weight.square().requires_grad_() for weight in (stem, conv, hidden, head)]
    ones = nn.functional.conv2d(torch.ones(1, *SHAPE).double(), squares[0], padding=1)
    ones = nn.functional.conv2d(ones, squares[1], stride=2, padding=1).mean(dim=(2, 3))
    bound = (ones @ squares[2].T @ squares[3].T * active).sum()
    for (name, weight), part in zip(whole.initial.items(), torch.autograd.grad(bound, squares), strict=True):
        expected[name] = weight.square() * part
    for name, values in scores.items():
        # BatchNorm divides by the root of 1 + 1e-5, in both networks.
        torch.testing.assert_close(expected[name] / (1 + norm.eps), values, rtol=1e-9, atol=0.0)
        torch.testing.assert_close(values, px(split)[name])


def test_px_follows_activations_in_place() -> None:
    """The result is that of activations that return new tensors."""

    def network(in_place: bool) -> nn.Module:
        torch.manual_seed(0)
        first, second = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 3, 3)
        return nn.Sequential(first, nn.ReLU(in_place), second, nn.GELU(), nn.Flatten(), nn.Linear(12, 2))

    assert_same(px(evidence_of(network(False), SHAPE)), px(evidence_of(network(True), SHAPE)))


def test_px_needs_the_same_activations_for_all_inputs() -> None:
    """A network whose calls depend on the values of its inputs is an error with a hint."""

    class Choosing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.inner(x)
            return output.relu().relu() if bool(x.min() >= 0) else output.relu()

    with pytest.raises(UsageError, match="other activations"):
        px(evidence_of(Choosing(), (3,)))
