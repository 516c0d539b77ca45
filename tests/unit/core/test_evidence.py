"""Evidence that a criterion reads; reading changes nothing."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn

from autosparse.core.criteria import criteria
from tests.unit.core.conftest import (
    SHAPE,
    assert_same,
    batch_of,
    evidence_of,
    random_masks,
    small,
    snapshot,
)


class Tied(nn.Module):
    """Two layers that share one weight, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        output: Tensor = self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))
        return output


class Idle(nn.Module):
    """A network with a layer that no input reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        output: Tensor = self.head(x)
        return output


def test_loss_is_the_cross_entropy_in_training_mode() -> None:
    """The loss is mean cross-entropy with BatchNorm on batch statistics, whatever mode the network is in."""
    network = small().eval()
    evidence = evidence_of(network, SHAPE)
    inputs, labels = batch_of(SHAPE)
    loss = evidence.loss(evidence.weights, (inputs, labels))

    expected = nn.functional.cross_entropy(network.train()(inputs), labels)

    torch.testing.assert_close(expected, loss)


def test_temperature_divides_the_logits() -> None:
    """A temperature of 2 halves the logits."""
    network = nn.Sequential(nn.Linear(2, 3))
    evidence = evidence_of(network, (2,))
    inputs, labels = batch_of((2,))

    expected = nn.functional.cross_entropy(network(inputs) / 2, labels)

    torch.testing.assert_close(expected, evidence.loss(evidence.weights, (inputs, labels), temperature=2.0))


def test_gradient_of_unequal_batches_is_that_of_the_whole() -> None:
    """Every example counts the same, however the examples are split into batches."""
    network = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
    evidence = evidence_of(network, (5,))
    inputs, labels = batch_of((5,), images=11)
    whole = evidence.gradient(evidence.weights, [(inputs, labels)])

    split = evidence.gradient(evidence.weights, list(zip(inputs.split(4), labels.split(4), strict=True)))

    assert list(whole) == list(split)
    for name in whole:
        torch.testing.assert_close(whole[name], split[name])


def test_gradient_is_given_for_pruned_weights_too() -> None:
    """A pruned weight has a gradient: what the loss would feel if it came back."""
    network = small()
    evidence = evidence_of(network, SHAPE, masks=random_masks(network))
    gradient = evidence.gradient(evidence.weights, [batch_of(SHAPE)])

    assert any(bool(gradient[name][~mask].any()) for name, mask in evidence.masks.items())
    assert not any(part.requires_grad for part in gradient.values())


def test_masked_starts_from_the_initial_weights() -> None:
    """`masked` gives weights times the new masks: a weight that the old masks took away can come back."""
    network = small()
    first, second = random_masks(network, seed=1), random_masks(network, seed=2)
    evidence = evidence_of(network, SHAPE)
    once = evidence.masked(first)
    twice = once.masked(second)

    assert_same({name: weight * second[name] for name, weight in evidence.weights.items()}, twice.weights)
    assert_same(second, twice.masks)
    assert_same({name: weight * first[name] for name, weight in evidence.weights.items()}, once.weights)
    assert twice.generator is evidence.generator


def test_flow_by_hand() -> None:
    """The flow takes every parameter as its absolute value, or without paths from biases if so asked."""
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    network.load_state_dict(
        {
            "0.weight": torch.tensor([[1.0, -2.0], [3.0, -4.0]]),
            "0.bias": torch.tensor([-5.0, 1.0]),
            "2.weight": torch.tensor([[-1.0, 2.0]]),
            "2.bias": torch.tensor([-7.0]),
        }
    )
    evidence = evidence_of(network, (2,))
    weights = {name: weight.abs() for name, weight in evidence.weights.items()}

    assert 1 * (1 + 2 + 5) + 2 * (3 + 4 + 1) + 7 == float(evidence.flow_gradient(weights)[0])
    assert 1 * (1 + 2) + 2 * (3 + 4) == float(evidence.flow_gradient(weights, paths_only=True)[0])


def test_flow_uses_running_statistics() -> None:
    """BatchNorm in the flow divides by the root of its running variance and leaves its statistics alone."""
    norm = nn.BatchNorm1d(1, eps=0.0)
    norm.load_state_dict(
        {
            "weight": torch.tensor([-3.0]),
            "bias": torch.tensor([-1.0]),
            "running_mean": torch.tensor([-2.0]),
            "running_var": torch.tensor([4.0]),
            "num_batches_tracked": torch.tensor(5),
        }
    )
    network = nn.Sequential(nn.Linear(1, 1, bias=False), norm).train()
    evidence = evidence_of(network, (1,))
    before = snapshot(network)

    assert 3 * (8 - 2) / 2 + 1 == float(evidence.flow_gradient({"0.weight": torch.tensor([[8.0]])})[0])
    assert 8 / 2 * 2 == float(evidence.flow_gradient({"0.weight": torch.tensor([[8.0]])}, paths_only=True)[0])
    assert_same(before, snapshot(network))
    assert network.training


def test_flow_has_the_precision_of_the_weights() -> None:
    """Weights in float64 make the whole flow float64."""
    evidence = evidence_of(small(), SHAPE)

    flow, _ = evidence.flow_gradient({name: part.double() for name, part in evidence.weights.items()})

    assert torch.float64 == flow.dtype


@pytest.mark.parametrize("name", ["snip", "grasp", "synflow"])
def test_tied_weights_are_scored_once(name: str) -> None:
    """A weight that two layers share has one score, under the name it was first met by."""
    scores = criteria[name].function(evidence_of(Tied(), (4,)))

    assert ["first.weight", "head.weight"] == list(scores)


class Decoder(nn.Module):
    """A head that shares its weight with an embedding, which is met first and is not prunable."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(3, 4)
        self.body = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        output: Tensor = self.head(torch.tanh(self.body(x)))
        return output


def test_weight_tied_to_an_embedding_is_scored() -> None:
    """A linear layer's weight is scored under its own name though an embedding has it too."""
    scores = criteria["snip"].function(evidence_of(Decoder(), (4,)))

    assert ["body.weight", "head.weight"] == list(scores)


@pytest.mark.parametrize("name", ["snip", "grasp", "synflow"])
def test_layers_that_no_input_reaches_score_zero(name: str) -> None:
    """A layer that takes no part in the forward pass has score zero everywhere."""
    scores = criteria[name].function(evidence_of(Idle(), (4,)))

    assert 0.0 == float(scores["idle.weight"].abs().max())
    assert float(scores["head.weight"].abs().max()) > 0


def test_checkpointing_is_back_after_threads_that_overlap() -> None:
    """However calls in several threads overlap, torch's checkpointing and attention are afterwards what they were."""
    module = torch.utils.checkpoint
    before = {name: value for name, value in vars(module).items() if callable(value)}
    network = small()
    evidence = evidence_of(network, SHAPE)
    threads = [
        threading.Thread(target=lambda: evidence_of(small(), SHAPE).flow_gradient(evidence.weights)) for _ in range(8)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert before == {name: value for name, value in vars(module).items() if callable(value)}
    assert "apply" not in vars(module.CheckpointFunction)
    assert torch.backends.mha.get_fastpath_enabled()
