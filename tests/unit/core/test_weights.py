"""Prunable weights, and the facts of the layers that hold them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from autosparse.core.weights import (
    Layer,
    describe_layers,
    keep_count,
    load_state,
    prunable_weights,
    sparsity_of,
    state_of,
    total_of,
)
from autosparse.errors import OwnCodeError
from tests.unit.core.conftest import SHAPE, Small, assert_same, small, snapshot
from tests.unit.core.test_evidence import Idle, Tied


def described(module: nn.Module, *shape: int) -> Layer:
    """The facts of a single layer."""
    (layer,) = describe_layers(nn.Sequential(module), torch.zeros(1, *shape))
    return layer


def test_prunable_weights_are_those_of_convolutions_and_linear_layers() -> None:
    """Biases, normalization and embeddings are not prunable; the order is the model's."""
    network = nn.Sequential(
        nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 3), nn.Sequential(nn.Conv1d(3, 2, 1), nn.BatchNorm1d(2)),
        nn.Conv2d(1, 1, 1), nn.Conv3d(1, 1, 1), nn.PReLU(),
    )  # fmt: skip

    weights = prunable_weights(network)

    assert ["2.weight", "3.0.weight", "4.weight", "5.weight"] == list(weights)
    assert all(weight is dict(network.named_parameters())[name] for name, weight in weights.items())


def test_frozen_weights_are_not_prunable() -> None:
    """A weight that does not train is left out."""
    network = small()
    network.conv.weight.requires_grad_(False)

    assert ["stem.weight", "hidden.weight", "head.weight"] == list(prunable_weights(network))


def test_tied_weights_come_once() -> None:
    """A weight that two layers share has the name under which it is met first."""
    assert ["first.weight", "head.weight"] == list(prunable_weights(Tied()))


def test_network_that_is_one_layer() -> None:
    """A bare layer's weight has the name that its state has."""
    assert ["weight"] == list(prunable_weights(nn.Linear(2, 2)))
    assert {} == prunable_weights(nn.ReLU())


def test_linear_layer() -> None:
    """A linear layer reads its inputs once for each example."""
    assert Layer("0.weight", (3, 5), 5, 3, (), 1, 1) == described(nn.Linear(5, 3), 5)


def test_linear_layer_over_tokens() -> None:
    """Applied to seven tokens, each weight is used seven times."""
    assert 7 == described(nn.Linear(5, 3), 7, 5).positions


@pytest.mark.parametrize(
    ("module", "shape", "expected"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), (3, 10, 6), Layer("0.weight", (8, 3, 3, 3), 27, 72, (3, 3), 1, 60)),
        (nn.Conv2d(3, 8, 3, stride=2, padding=1), (3, 10, 6), Layer("0.weight", (8, 3, 3, 3), 27, 72, (3, 3), 2, 15)),
        (nn.Conv2d(4, 2, (1, 3), stride=(1, 2)), (4, 5, 7), Layer("0.weight", (2, 4, 1, 3), 12, 6, (1, 3), 2, 15)),
        (nn.Conv1d(2, 3, 5), (2, 9), Layer("0.weight", (3, 2, 5), 10, 15, (5,), 1, 5)),
        (nn.Conv2d(1, 1, 1), (1, 1, 1), Layer("0.weight", (1, 1, 1, 1), 1, 1, (1, 1), 1, 1)),
    ],
)
def test_convolution(module: nn.Module, shape: tuple[int, ...], expected: Layer) -> None:
    """A convolution's weights are used once a position of its output, at the size that they meet."""
    assert expected == described(module, *shape)


def test_grouped_convolution_costs_its_own_weights() -> None:
    """Each weight of a depthwise convolution is used once a position, and an output reads one channel."""
    layer = described(nn.Conv2d(4, 4, 3, groups=4), 4, 5, 5)

    assert 9 == layer.positions
    assert 36 == layer.size
    assert 9 == layer.fan_in


def test_grouped_convolution_feeds_its_own_group() -> None:
    """An input of a depthwise convolution feeds the nine positions of one output channel."""
    assert 9 == described(nn.Conv2d(4, 4, 3, groups=4), 4, 5, 5).fan_out


def test_transposed_convolution() -> None:
    """A transposed convolution's weights are used once a position of its input; its shape is inputs first."""
    layer = described(nn.ConvTranspose2d(2, 3, 2, stride=2), 2, 4, 4)

    assert 16 == layer.positions
    assert (2 * 4, 3 * 4) == (layer.fan_in, layer.fan_out)
    assert 16 * 24 == layer.positions * layer.size


def test_tied_weight_is_used_by_each_of_its_layers() -> None:
    """A weight that is applied twice has two positions."""
    layers = describe_layers(Tied(), torch.zeros(1, 4))

    assert [("first.weight", 2), ("head.weight", 1)] == [(layer.name, layer.positions) for layer in layers]


def test_layer_that_no_input_reaches_has_no_position() -> None:
    """A layer that takes no part is described all the same."""
    layers = describe_layers(Idle(), torch.zeros(1, 4))

    assert [("idle.weight", 0), ("head.weight", 1)] == [(layer.name, layer.positions) for layer in layers]


@pytest.mark.parametrize("training", [True, False])
def test_describing_leaves_the_model_alone(training: bool) -> None:
    """State, modes, gradients, hooks and the global generator are as they were."""
    network = small().train(training)
    before, random = snapshot(network), torch.get_rng_state()

    layers = describe_layers(network, torch.zeros(1, *SHAPE))

    assert list(prunable_weights(network)) == [layer.name for layer in layers]
    assert_same(before, snapshot(network))
    assert {training} == {module.training for module in network.modules()}
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(random, torch.get_rng_state())


class Broken(Small):
    """A network whose forward pass fails after its first layer."""

    def forward(self, x: Tensor) -> Tensor:
        """Fail."""
        self.stem(x)
        raise ArithmeticError


def test_failing_forward_pass_leaves_no_hook() -> None:
    """When the forward pass fails, the error passes and modes and hooks are as they were."""
    network = Broken().train()

    with pytest.raises(OwnCodeError, match="ArithmeticError"):
        describe_layers(network, torch.zeros(1, *SHAPE))

    assert all(module.training and not module._forward_hooks for module in network.modules())


def test_describing_leaves_the_modes_of_single_modules_alone() -> None:
    """A BatchNorm that was put in evaluation mode by itself is still in it."""
    network = small().train()
    network.norm.eval()

    describe_layers(network, torch.zeros(1, *SHAPE))

    assert not network.norm.training


def test_keep_count_by_hand() -> None:
    """Sparsity is the fraction removed; what stays is rounded to a whole number once."""
    assert 1000 == keep_count(1000, 0.0)
    assert 10 == keep_count(1000, 0.99)
    assert 2720 == keep_count(272_032, 0.99)
    assert 1 == keep_count(1, 0.0)


@given(total=st.integers(0, 10**9), sparsity=st.floats(0, 1, exclude_max=True))
def test_keep_count_is_within_half_a_weight(total: int, sparsity: float) -> None:
    """The count is the nearest whole number, from 0 to the total."""
    keep = keep_count(total, sparsity)

    assert 0 <= keep <= total
    assert math.isclose((1 - sparsity) * total, keep, abs_tol=0.5000001)


def test_total_of_by_hand() -> None:
    """The total is the number of numbers."""
    assert 7 == total_of({"a": torch.zeros(2, 3), "b": torch.zeros(())})
    assert 0 == total_of({})


@given(st.integers(1, 2**40), st.floats(0, 1))
def test_a_sparsity_for_every_count(total: int, share: float) -> None:
    """Any number of weights that stay has a sparsity that keeps exactly them."""
    keep = max(1, round(share * total))

    assert keep == keep_count(total, sparsity_of(total, keep))


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.95, 0.98, 0.99])
@pytest.mark.parametrize("total", [4_964, 77_360, 11_164_352])
def test_a_round_sparsity_is_found_again(total: int, sparsity: float) -> None:
    """The sparsity with the fewest decimals is the one that a person would write."""
    assert sparsity == sparsity_of(total, keep_count(total, sparsity))


def test_a_state_keeps_the_versions_of_modules() -> None:
    """Tensors alone load into a network whose modules know of older states, and into one with more than tensors."""

    class Versioned(nn.Linear):
        _version = 2

        def _load_from_state_dict(self, state: Any, prefix: str, metadata: Any, *rest: Any) -> None:
            if metadata.get("version", 1) < 2:
                raise ValueError("an old state is converted, which would break this one")
            super()._load_from_state_dict(state, prefix, metadata, *rest)

        def get_extra_state(self) -> Any:
            return {"no": "tensor"}

        def set_extra_state(self, state: Any) -> None:
            assert state == {"no": "tensor"}

    first, second = nn.Sequential(Versioned(2, 3)), nn.Sequential(Versioned(2, 3))

    state = state_of(first)
    load_state(second, state)

    assert ["0.weight", "0.bias"] == [*state]
    assert torch.equal(first.get_parameter("0.weight"), second.get_parameter("0.weight"))
    with pytest.raises(RuntimeError, match="Missing key"):
        load_state(second, {})
