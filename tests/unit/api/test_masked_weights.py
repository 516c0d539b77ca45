"""Masks find their weights in parametrized layers, and through whatever replaces a tensor."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from autosparse import Masks
from autosparse.errors import UsageError
from tests.unit.api.conftest import batches, checkered, masked, network, train

Parametrize = Callable[[nn.Module], Any]


def older(function: Parametrize) -> Parametrize:
    """A parametrization of the older kind, which PyTorch warns of."""

    def quietly(module: nn.Module) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            function(module)

    return quietly


KEEP_ZEROS: dict[str, Parametrize] = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "older weight_norm": older(nn.utils.weight_norm),
    "older spectral_norm": older(nn.utils.spectral_norm),
}


def momentum(model: nn.Module) -> torch.optim.Optimizer:
    """An optimizer that has steps of the dense network in memory."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    train(model, optimizer)
    return optimizer


def zeros_of(model: nn.Sequential, masks: Masks) -> int:
    """The number of pruned weights that are zero, as the layers compute with them."""
    model(batches()[0][0])  # the older kinds compute weights in a forward pass
    weights: dict[str, Any] = {"0.weight": model[0].weight, "5.weight": model[5].weight}
    return sum(int((weights[name].detach()[~mask] == 0).sum()) for name, mask in masks.items())


@pytest.mark.parametrize("name", KEEP_ZEROS)
def test_layers_that_are_parametrized_after_pruning(name: str) -> None:
    """Masks of the plain network hold the parameters that weights are computed from."""
    model = network()
    masks = checkered(model)
    KEEP_ZEROS[name](model[5])
    optimizer = momentum(model)

    masks.apply(model)
    assert masks.total - masks.kept == zeros_of(model, masks)
    train(model, optimizer)
    assert masks.total - masks.kept > zeros_of(model, masks)
    with masks.hold(optimizer):
        train(model, optimizer)

    assert masks.total - masks.kept == zeros_of(model, masks)


@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm"])
def test_layers_that_are_parametrized_during_a_hold(name: str) -> None:
    """The hold follows a weight into a parametrization and out of it."""
    model = network()
    masks = checkered(model)
    masks.hold(momentum(model))

    KEEP_ZEROS[name](model[5])
    train(model, momentum(model))
    assert masks.total - masks.kept == zeros_of(model, masks)
    parametrize.remove_parametrizations(model[5], "weight")
    train(model, momentum(model))

    assert masks.total - masks.kept == zeros_of(model, masks)


def test_a_parametrization_that_mixes_weights_is_refused() -> None:
    """An orthogonal weight has no zeros: it is refused before any change, and at the first pass during a hold."""
    model = network()
    masks = Masks({"5.weight": (torch.arange(192) % 5 < 3).view(3, 64)}, model=model)
    sentence = "its parametrization of 5.weight, Orthogonal, does not keep pruned weights zero"
    masks.hold(momentum(model))
    parametrizations.orthogonal(model[5])
    before = copy.deepcopy(model.state_dict())

    with pytest.raises(UsageError, match=sentence):
        train(model, torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(UsageError, match=sentence):
        masks.apply(model)

    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["weight_norm", "older weight_norm"])
def test_weight_norm_of_a_neuron_without_weights_is_refused(name: str) -> None:
    """A direction of zeros has no length: PyTorch computes NaN. It is refused before and during a hold."""
    model, late = nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2))
    sparse = {"0.weight": torch.tensor([[True, False], [False, False]])}
    masks, others = Masks(sparse, model=model), Masks(sparse, model=late)
    others.hold(torch.optim.SGD(late.parameters(), lr=0.1))
    for one in (model, late):
        KEEP_ZEROS[name](one[0])
    sentence = r"0.weight, WeightNorm, does not keep .* all others finite"

    with pytest.raises(UsageError, match=sentence):
        masks.hold(torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(UsageError, match=sentence):
        late(torch.ones(1, 2))


def test_older_spectral_norm_of_a_layer_without_weights_is_refused() -> None:
    """Its largest singular value is zero: PyTorch divides by it."""
    model = nn.Sequential(nn.Linear(2, 2))
    masks = Masks({"0.weight": torch.zeros(2, 2, dtype=torch.bool)}, model=model)
    KEEP_ZEROS["older spectral_norm"](model[0])

    with pytest.raises(UsageError, match=r"0.weight, SpectralNorm, does not keep"):
        masks.apply(model)


@pytest.fixture
def swapping() -> Iterator[None]:
    """Conversions of modules that exchange tensors instead of their data."""
    torch.__future__.set_swap_module_params_on_conversion(True)
    yield
    torch.__future__.set_swap_module_params_on_conversion(False)


def assert_masked_gradients(model: nn.Module, masks: Masks) -> None:
    """Gradients of pruned weights are zero, those of others are not all zero."""
    for name, mask in masks.items():
        gradient = model.get_parameter(name).grad

        assert gradient is not None
        assert 0 == gradient[~mask].count_nonzero() < gradient[mask].count_nonzero()


@pytest.mark.usefixtures("swapping")
def test_tensors_that_are_swapped() -> None:
    """`swap_tensors` is not in the way of a hold, and gradients of the new tensors are masked too."""
    model = network()
    masks, optimizer = checkered(model), torch.optim.SGD(model.parameters(), lr=0.1)
    masks.hold(optimizer)

    model.double()
    nn.functional.cross_entropy(model(batches()[0][0].double()), batches()[0][1]).backward()

    assert_masked_gradients(model, masks)
    optimizer.step()
    assert 0 == masked(model, masks).count_nonzero()
    assert torch.float64 == masked(model, masks).dtype


def test_parameters_that_are_replaced() -> None:
    """A new parameter, assigned or loaded, is held from its first pass in training, with its gradient."""
    model = network()
    masks = checkered(model)
    masks.hold(momentum(model))
    layer: Any = model[5]
    layer.weight = nn.Parameter(torch.ones(3, 64))
    model[0].load_state_dict({"weight": torch.ones(4, 2, 3, 3), "bias": torch.zeros(4)}, assign=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)

    nn.functional.cross_entropy(model(batches()[0][0]), batches()[0][1]).backward()

    assert_masked_gradients(model, masks)
    optimizer.step()
    assert 0 == masked(model, masks).count_nonzero()


def test_what_an_optimizer_remembers_is_masked() -> None:
    """Momentum of pruned weights is zero when the hold begins and when a state is loaded; that of others is kept."""
    model = network()
    masks, optimizer = checkered(model), momentum(model)
    before = {name: optimizer.state[model.get_parameter(name)]["momentum_buffer"].clone() for name in masks}
    state = copy.deepcopy(optimizer.state_dict())

    handle = masks.hold(optimizer)
    for _ in range(2):
        for name, mask in masks.items():
            memory = optimizer.state[model.get_parameter(name)]["momentum_buffer"]
            assert torch.equal(before[name] * mask, memory)
        optimizer.load_state_dict(copy.deepcopy(state))

    handle.remove()
    optimizer.load_state_dict(copy.deepcopy(state))
    assert torch.equal(before["5.weight"], optimizer.state[model.get_parameter("5.weight")]["momentum_buffer"])
