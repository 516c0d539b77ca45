"""Every criterion by hand on networks of a few weights, and what holds for all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autosparse.core.criteria import criteria
from autosparse.core.evidence import Batch, Evidence, Scorer
from autosparse.core.inputs import in_parts
from autosparse.core.weights import Tensors, prunable_weights
from tests.unit.core.conftest import (
    SHAPE,
    Small,
    assert_same,
    batch_of,
    evidence_of,
    first_feature,
    order_of,
    seeded,
    small,
    snapshot,
)


def linear(*rows: list[float]) -> nn.Linear:
    """A linear layer without bias that has these weights."""
    module = nn.Linear(len(rows[0]), len(rows), bias=False)
    module.weight.data = torch.tensor(rows)
    return module


def score(name: str, evidence: Evidence, **options: Any) -> Tensors:
    """The scores of a registered criterion."""
    scores: Tensors = criteria[name].function(evidence, **options)
    return scores


def with_scorer(evidence: Evidence) -> Evidence:
    """The evidence with a scorer that predicts the first feature, and with some order of survival."""
    return replace(evidence, scorer=first_feature(), survival=order_of(evidence.weights))


def test_magnitude_by_hand() -> None:
    """Magnitude is the absolute value of a weight, also of one that the masks took away."""
    network = nn.Sequential(linear([1.0, -2.0], [0.5, 0.0]))
    masks = {"0.weight": torch.tensor([[True, False], [True, True]])}

    full = score("magnitude", evidence_of(network, (2,)))
    masked = score("magnitude", evidence_of(network, (2,), masks=masks))

    assert [[1.0, 2.0], [0.5, 0.0]] == full["0.weight"].tolist()
    assert [[1.0, 2.0], [0.5, 0.0]] == masked["0.weight"].tolist()


def test_random_comes_from_the_generator() -> None:
    """Random scores are uniform draws, layer by layer in model order, from the evidence's own generator."""
    evidence = evidence_of(small(), SHAPE, seed=3)
    generator = seeded(3)
    expected = {name: torch.rand(weight.shape, generator=generator) for name, weight in evidence.weights.items()}

    assert_same(expected, score("random", evidence))


def test_random_draws_anew_every_round() -> None:
    """A second look at the same evidence gives other random scores."""
    evidence = evidence_of(small(), SHAPE)

    first, second = (score("random", evidence)["head.weight"] for _ in range(2))

    assert not torch.equal(first, second)


def test_snip_by_hand() -> None:
    """SNIP is |w g|, with g = (softmax - target) x for one linear layer."""
    network = nn.Sequential(linear([1.0, 0.0, -1.0], [0.0, 2.0, -1.0]))
    inputs, labels = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([1])
    chance = torch.tensor([-2.0, 1.0]).softmax(0)  # logits 1 - 3 and 4 - 3
    gradient = (chance - torch.tensor([0.0, 1.0]))[:, None] * inputs

    scores = score("snip", evidence_of(network, (3,), batches=[(inputs, labels)]))

    expected = (torch.tensor([[1.0, 0.0, -1.0], [0.0, 2.0, -1.0]]) * gradient).abs()
    torch.testing.assert_close(expected, scores["0.weight"])


def test_snip_is_weight_times_gradient_of_the_whole_network() -> None:
    """On a network with BatchNorm in training mode SNIP is |w g|, g as autograd gives it."""
    network, batch = small().train(), batch_of(SHAPE, images=9)
    scores = score("snip", evidence_of(network, SHAPE, batches=[batch]))

    nn.functional.cross_entropy(network(batch[0]), batch[1]).backward()

    assert list(prunable_weights(network)) == list(scores)
    for name, weight in prunable_weights(network).items():
        assert weight.grad is not None
        torch.testing.assert_close((weight * weight.grad).abs().detach(), scores[name])


def hand_made_batches() -> list[Batch]:
    """Two batches of unequal size in float64."""
    inputs, labels = batch_of((3,), images=7, classes=2)
    return [(inputs[:5].double(), labels[:5]), (inputs[5:].double(), labels[5:])]


@pytest.mark.parametrize("temperature", [1.0, 200.0])
def test_grasp_is_weight_times_hessian_times_gradient(temperature: float) -> None:
    """GraSP is w (H g), with the Hessian of the mean loss over all batches written out."""
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    generator = seeded()
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    first, second = network[0], network[2]
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    batches = hand_made_batches()
    inputs, labels = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])

    def loss(weights: Tensor) -> Tensor:
        hidden = torch.tanh(inputs @ weights[:12].view(4, 3).T + first.bias.detach())
        logits = hidden @ weights[12:].view(2, 4).T + second.bias.detach()
        return nn.functional.cross_entropy(logits / temperature, labels)

    flat = torch.cat([first.weight.detach().flatten(), second.weight.detach().flatten()])
    hessian = torch.autograd.functional.hessian(loss, flat)
    gradient = torch.autograd.functional.jacobian(loss, flat)
    expected = flat * (hessian @ gradient)
    scores = score("grasp", evidence_of(network, (3,), batches=batches), temperature=temperature)

    torch.testing.assert_close(expected, torch.cat([part.flatten() for part in scores.values()]), rtol=1e-8, atol=1e-18)


def test_synflow_of_two_linear_layers_by_hand() -> None:
    """SynFlow is |w| times what flows in times what its output passes on, biases flowing in as well."""
    network = nn.Sequential(linear([1.0, -2.0], [3.0, 0.5]), linear([-1.0, 4.0]))
    network[0].bias = nn.Parameter(torch.tensor([-10.0, 1.0]))
    network[1].bias = nn.Parameter(torch.tensor([100.0]))

    scores = score("synflow", evidence_of(network, (2,)))

    # Into the hidden units flow 1 + 2 + |-10| and 3 + 0.5 + 1; out of them |-1| and 4.
    assert [[1.0, 2.0], [12.0, 2.0]] == scores["0.weight"].tolist()
    assert [[13.0, 18.0]] == scores["1.weight"].tolist()
    assert torch.float64 == scores["0.weight"].dtype


def test_synflow_is_conserved_from_layer_to_layer() -> None:
    """Without biases every layer's scores add up to the output (Tanaka et al. 2020, theorem 1)."""
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(4, 3, 3, stride=2, bias=False), nn.ReLU(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(3, 5, bias=False), nn.ReLU(), nn.Linear(5, 3, bias=False),
    )  # fmt: skip
    evidence = evidence_of(network, SHAPE)
    sums = torch.stack([part.sum() for part in score("synflow", evidence).values()])
    flow, _ = evidence.flow_gradient({name: weight.abs().double() for name, weight in evidence.weights.items()})

    torch.testing.assert_close(flow.detach().expand(4), sums)


def test_synflow_survives_deep_networks() -> None:
    """In float64 a hundred layers whose flow leaves float32's range still score finite and positive."""
    network = nn.Sequential(*[nn.Linear(8, 8) for _ in range(100)])
    for parameter in network.parameters():
        nn.init.constant_(parameter, 1.0)
    scores = score("synflow", evidence_of(network, (8,)))

    assert all(bool(part.isfinite().all()) and bool((part > 0).all()) for part in scores.values())
    assert float(scores["0.weight"].max()) > torch.finfo(torch.float32).max


def test_synflow_scores_what_a_weight_adds_to_the_flow_that_is_left() -> None:
    """Under masks only the paths that are left flow; a pruned weight has what it would bring back by itself."""
    network = nn.Sequential(linear([1.0, 2.0], [3.0, 4.0]), linear([5.0, 6.0]))
    masks = {"0.weight": torch.tensor([[True, False], [True, True]]), "1.weight": torch.tensor([[True, False]])}
    scores = score("synflow", evidence_of(network, (2,), masks=masks))

    assert [[5.0, 10.0], [0.0, 0.0]] == scores["0.weight"].tolist()
    assert [[5.0, 42.0]] == scores["1.weight"].tolist()


def test_snip_scores_a_pruned_weight_by_what_it_was() -> None:
    """Under masks SNIP is the initial weight times the gradient of the pruned network (FORCE)."""
    network = nn.Sequential(linear([1.0, 0.0, -1.0], [0.0, 2.0, -1.0]))
    inputs, labels = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([1])
    masks = {"0.weight": torch.tensor([[True, True, False], [True, False, True]])}
    gradient = (torch.tensor([1.0, -3.0]).softmax(0) - torch.tensor([0.0, 1.0]))[:, None] * inputs

    scores = score("snip", evidence_of(network, (3,), batches=[(inputs, labels)], masks=masks))

    torch.testing.assert_close((prunable_weights(network)["0.weight"] * gradient).abs().detach(), scores["0.weight"])
    assert float(scores["0.weight"][1, 1]) > 1


def test_prospr_of_one_weight_by_hand() -> None:
    """Two steps of 0.1 on the loss 2 w^2 leave 0.36 w, whose loss has the slope 4 * 0.36^2 w in w."""
    network = nn.Sequential(linear([3.0]))
    evidence = replace(
        evidence_of(network, (1,), batches=[(torch.tensor([[2.0]]), torch.tensor([0]))]),
        objective=lambda outputs, labels: outputs.sum() ** 2 / 2,
    )

    scores = score("prospr", evidence, steps=2, lr=0.1)

    torch.testing.assert_close(torch.tensor([[3.0 * 4 * 3.0 * 0.36**2]]), scores["0.weight"])


@pytest.mark.parametrize("steps", [1, 3])
def test_prospr_is_the_gradient_through_unrolled_training(steps: int) -> None:
    """ProsPr is |w dL/dw| with the steps of all parameters, biases and scales too, unrolled by autograd."""
    network = small().double()
    batches = [(inputs.double(), labels) for inputs, labels in (batch_of(SHAPE, 8, seed=1), batch_of(SHAPE, 5, seed=2))]
    evidence = evidence_of(network, SHAPE, batches=batches)
    start = {name: weight.clone().requires_grad_() for name, weight in evidence.initial.items()}
    state = {**start, **{name: part.clone().requires_grad_() for name, part in evidence.others.items()}}

    def loss(parameters: Tensors) -> Tensor:
        return torch.stack([evidence.loss(parameters, batch) * len(batch[1]) / 13 for batch in batches]).sum()

    for _ in range(steps):
        parts = torch.autograd.grad(loss(state), list(state.values()), create_graph=True)
        state = {name: part - 0.1 * slope for (name, part), slope in zip(state.items(), parts, strict=True)}
    slopes = torch.autograd.grad(loss(state), list(start.values()))

    scores = score("prospr", evidence, steps=steps)

    assert {"norm.weight", "norm.bias", "conv.bias", "hidden.bias", "head.bias"} == set(evidence.others)
    for (name, weight), slope in zip(start.items(), slopes, strict=True):
        torch.testing.assert_close((weight * slope).abs().detach(), scores[name], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", ["snip", "grasp", "prospr"])
def test_evaluation_mode_takes_running_statistics(name: str) -> None:
    """In evaluation mode statistics are the network's own, so that it makes no difference how images are batched."""
    network = small().double()
    inputs, labels = batch_of(SHAPE, 6)
    split = [(inputs[:2].double(), labels[:2]), (inputs[2:].double(), labels[2:])]

    scores = {
        mode: [
            score(name, evidence_of(network, SHAPE, batches=batches), mode=mode)
            for batches in ([(inputs.double(), labels)], split)
        ]
        for mode in ("training", "evaluation")
    }

    for key in scores["evaluation"][0]:
        torch.testing.assert_close(*(result[key] for result in scores["evaluation"]))
    together, divided = scores["training"]
    assert not torch.allclose(together["stem.weight"], divided["stem.weight"])


@pytest.mark.parametrize("name", ["grasp", "prospr"])
def test_parts_of_a_batch_are_batches(name: str) -> None:
    """Each has its own BatchNorm statistics; where these play no part, nor does the number of parts."""
    network = small().double()
    inputs, labels = batch_of(SHAPE, 7)
    whole = [(inputs.double(), labels)]
    split = [(inputs[:4].double(), labels[:4]), (inputs[4:].double(), labels[4:])]

    for batches, parts, mode, same in [
        (split, 1, "training", True), (whole, 1, "training", False), (whole, 1, "evaluation", True),
        (split, 4, "evaluation", True),
    ]:  # fmt: skip
        halves = score(name, evidence_of(network, SHAPE, batches=whole), parts=2, mode=mode)
        others = score(name, evidence_of(network, SHAPE, batches=batches), parts=parts, mode=mode)
        assert same == all(torch.allclose(halves[key], others[key]) for key in halves)


def test_a_batch_is_cut_where_it_can_be() -> None:
    """Into nearly equal parts of two examples or more, and not at all where time comes first."""
    x, y = torch.arange(7.0), torch.arange(7)

    assert [[2, 3, 2], [7], [3], [7]] == [
        [len(part) for part, _ in in_parts([batch], parts)]
        for batch, parts in [((x, y), 5), ((x, y), 1), ((x[:3], y[:3]), 2), ((x, y[:3]), 2)]
    ]
    assert torch.equal(y, torch.cat([label for _, label in in_parts([(x, y)], 3)]))


def test_learned_asks_the_scorer() -> None:
    """The learned criterion hands on what the scorer predicts from the features."""
    network = nn.Sequential(linear([1.0, -3.0], [0.5, 2.0]))
    evidence = with_scorer(evidence_of(network, (2,), batches=[batch_of((2,), classes=2)]))

    scores = score("learned", evidence)

    # The first feature is the rank of |w| in its layer, from 0 to 1.
    torch.testing.assert_close(torch.tensor([[1 / 3, 1.0], [0.0, 2 / 3]]), scores["0.weight"])


def test_learned_looks_at_the_network_as_its_scorer_does() -> None:
    """A scorer that prepares a network is asked about that one; the network to prune stays what it is."""
    network = nn.Sequential(linear([1.0, -3.0], [0.5, 2.0]))
    evidence = with_scorer(evidence_of(network, (2,), batches=[batch_of((2,), classes=2)]))
    assert evidence.scorer is not None
    predict = evidence.scorer.predict

    def of_inverted(given: Evidence, images: int) -> Tensors:
        inverted = {name: 1 / weight for name, weight in given.weights.items()}
        return predict(replace(given, weights=inverted), images)

    scores = score("learned", replace(evidence, scorer=Scorer(of_inverted)))

    torch.testing.assert_close(torch.tensor([[2 / 3, 0.0], [1.0, 1 / 3]]), scores["0.weight"])
    assert [[1.0, -3.0], [0.5, 2.0]] == evidence.weights["0.weight"].tolist()


@pytest.mark.parametrize("name", criteria.names)
class TestEveryCriterion:
    """Tests of each criterion, whatever it measures."""

    def evidence(self, network: nn.Module | None = None, masks: Tensors | None = None) -> Evidence:
        """Evidence in two batches about a network with BatchNorm."""
        batches = [batch_of(SHAPE, 8, seed=1), batch_of(SHAPE, 5, seed=2)]
        return with_scorer(evidence_of(network or small(), SHAPE, batches=batches, masks=masks))

    def test_scores_have_the_shape_of_the_weights(self, name: str) -> None:
        """One finite score for every prunable weight, layers in model order."""
        evidence = self.evidence()

        scores = score(name, evidence)

        assert list(evidence.weights) == list(scores)
        for key, weight in evidence.weights.items():
            assert weight.shape == scores[key].shape
            assert bool(scores[key].isfinite().all())
            assert len(scores[key].unique()) > 1

    @pytest.mark.parametrize("training", [True, False])
    def test_nothing_is_modified(self, name: str, training: bool) -> None:
        """State, modes, gradients, weights, masks, batches and the global generator are as they were."""
        network = small().train(training)
        evidence = self.evidence(network)
        state, weights, masks = snapshot(network), dict(evidence.weights), dict(evidence.masks)
        copies = [{key: part.clone() for key, part in tensors.items()} for tensors in (weights, masks)]
        batches = [(inputs.clone(), labels.clone()) for inputs, labels in evidence.draw(13)]
        parameters = [(parameter, parameter.data_ptr()) for parameter in network.parameters()]
        random = torch.get_rng_state()

        score(name, evidence)

        assert_same(state, snapshot(network))
        assert_same(copies[0], evidence.weights)
        assert_same(copies[1], evidence.masks)
        assert all(weights[key] is evidence.weights[key] for key in weights)
        assert {training} == {module.training for module in network.modules()}
        assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
        assert all(pointer == parameter.data_ptr() for parameter, pointer in parameters)
        assert torch.equal(random, torch.get_rng_state())
        for (inputs, labels), (later_inputs, later_labels) in zip(batches, evidence.draw(13), strict=True):
            assert torch.equal(inputs, later_inputs)
            assert torch.equal(labels, later_labels)

    def test_same_generator_gives_same_scores(self, name: str) -> None:
        """The same network, batches and generator give the same scores bit for bit."""
        assert_same(score(name, self.evidence()), score(name, self.evidence()))

    def test_masked_networks_are_scored(self, name: str) -> None:
        """Under masks that leave half of the weights every score is still finite."""
        masks = {key: weight.abs() > 1e-3 for key, weight in prunable_weights(small()).items()}
        for mask in masks.values():
            mask.view(-1)[::2] = False

        scores = score(name, self.evidence(masks=masks))

        assert all(bool(part.isfinite().all()) for part in scores.values())


def test_modes_of_single_modules_are_left_alone() -> None:
    """A BatchNorm that was put in evaluation mode by itself is still in it after scoring and measuring."""
    network = Small().train()
    network.norm.eval()

    score("snip", evidence_of(network, SHAPE))

    assert network.training
    assert network.conv.training
    assert not network.norm.training
