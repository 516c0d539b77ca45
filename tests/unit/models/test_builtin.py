"""Every registered network builds, runs, and is measured as it is."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from autosparse.core.allocation import macs
from autosparse.core.weights import Layer, describe_layers, prunable_weights, total_of
from autosparse.models import models
from autosparse.spec.choices import ModelChoice
from tests.unit.core.conftest import seeded

SHAPES = [(3, 32, 32), (1, 8, 8)]


def build(name: str, shape: tuple[int, int, int] = (1, 8, 8), classes: int = 10, seed: int = 0) -> nn.Module:
    """A registered network, narrow where it has a width, so that it is quick."""
    options = {"width": 8} if "width" in models[name].options else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = models[name].function(shape, classes, **options)
    return network


@cache
def outline(name: str, shape: tuple[int, int, int], classes: int = 10) -> nn.Module:
    """A registered network as it is by default, without memory for its numbers."""
    with torch.device("meta"):
        network: nn.Module = models[name].function(shape, classes)
    return network


def layers_of(network: nn.Module, shape: tuple[int, int, int]) -> tuple[Layer, ...]:
    """The layers of an outline."""
    return describe_layers(network, torch.zeros(1, *shape, device="meta"))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", models.names)
class TestEveryModel:
    """Tests of each network, for colour images and for digits."""

    def test_logits(self, name: str, shape: tuple[int, int, int]) -> None:
        """A batch gives finite logits, one a class, in either mode."""
        network = build(name, shape, classes=7)
        inputs = torch.rand(2, *shape, generator=seeded())

        for training in (True, False):
            with torch.no_grad():
                outputs = network.train(training)(inputs)

            assert (2, 7) == outputs.shape
            assert bool(outputs.isfinite().all())

    def test_layers_are_measured(self, name: str, shape: tuple[int, int, int]) -> None:
        """Every prunable weight is used, and the multiply-adds are half the operations that torch counts."""
        network = outline(name, shape)
        layers = layers_of(network, shape)

        weights = prunable_weights(network)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network.eval()(torch.zeros(1, *shape, device="meta"))

        assert weights
        assert [(key, tuple(weight.shape)) for key, weight in weights.items()] == [(la.name, la.shape) for la in layers]
        assert all(layer.positions > 0 for layer in layers)
        assert counter.get_total_flops() == 2 * macs(layers)

    def test_layers_measure_the_same_without_numbers(self, name: str, shape: tuple[int, int, int]) -> None:
        """The facts of a layer do not depend on the device of its numbers."""
        network = build(name, shape)

        expected = describe_layers(network, torch.zeros(1, *shape))

        assert expected == layers_of(network.to("meta"), shape)


@pytest.mark.parametrize("name", models.names)
class TestEveryModelOnDigits:
    """Tests of each network that need no second shape."""

    def test_everything_trains(self, name: str) -> None:
        """Every parameter has a gradient that is not zero everywhere."""
        network = build(name).train()

        nn.functional.cross_entropy(network(torch.rand(8, 1, 8, 8, generator=seeded())), torch.arange(8)).backward()

        for key, parameter in network.named_parameters():
            assert parameter.grad is not None, key
            assert bool(parameter.grad.any()), key

    def test_most_parameters_are_prunable(self, name: str) -> None:
        """Nineteen of twenty parameters are weights of convolutions or linear layers."""
        network = outline(name, (1, 8, 8))

        assert total_of(prunable_weights(network)) > 0.95 * sum(p.numel() for p in network.parameters())

    def test_seed_decides(self, name: str) -> None:
        """The same seed builds the same network, another seed another one in every prunable weight."""
        first, second, other = (prunable_weights(build(name, seed=seed)) for seed in (1, 1, 2))

        assert all(torch.equal(weight, second[key]) for key, weight in first.items())
        assert all(not torch.equal(weight, other[key]) for key, weight in first.items())

    def test_state_loads_into_another(self, name: str) -> None:
        """A network with another one's state gives its outputs."""
        first, second = build(name, seed=1).eval(), build(name, seed=2).eval()
        inputs = torch.rand(2, 1, 8, 8, generator=seeded())

        second.load_state_dict(first.state_dict())

        with torch.no_grad():
            assert torch.equal(first(inputs), second(inputs))

    def test_memory_layout_does_not_matter(self, name: str) -> None:
        """Channels last gives the same outputs."""
        network = build(name).eval()
        inputs = torch.rand(2, 1, 8, 8, generator=seeded())
        last = torch.channels_last
        with torch.no_grad():
            expected = network(inputs)

            actual = network.to(memory_format=last)(inputs.contiguous(memory_format=last))

        torch.testing.assert_close(expected, actual, rtol=1e-3, atol=1e-4)

    def test_options_have_help(self, name: str) -> None:
        """The network and each of its options say what they are."""
        assert models[name].help
        assert all(option.help for option in models[name].options.values())


def test_resnet20_costs_what_is_published() -> None:
    """ResNet-20 on CIFAR has 0.27 M parameters and costs 40.6 M multiply-adds, and 0.26 M for its shortcuts."""
    shape = (3, 32, 32)
    network = outline("resnet20", shape)
    layers = layers_of(network, shape)

    stages = 6 * 16 * 16 * 9 * 1024 + (16 * 32 + 5 * 32 * 32) * 9 * 256 + (32 * 64 + 5 * 64 * 64) * 9 * 64
    shortcuts = 16 * 32 * 256 + 32 * 64 * 64
    assert 3 * 16 * 9 * 1024 + stages + shortcuts + 64 * 10 == macs(layers)
    assert 40_551_040 + shortcuts == macs(layers)
    assert 272_474 == sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("name", "depth"), [("resnet8", 8), ("resnet20", 20), ("resnet32", 32), ("resnet56", 56), ("resnet18", 18)]
)
def test_resnets_have_the_depth_of_their_name(name: str, depth: int) -> None:
    """Layers but the shortcuts are as many as the name says, and weights are drawn for ReLU by their fan-in."""
    weights = {key: weight for key, weight in prunable_weights(build(name)).items() if "shortcut" not in key}

    assert depth == len(weights)
    for key, weight in weights.items():
        if weight.ndim == 4 and weight.numel() > 1000:
            spread = math.sqrt(2 / math.prod(weight.shape[1:]))
            assert pytest.approx(spread, rel=0.1) == float(weight.detach().std()), key


def test_resnet18_has_the_published_size() -> None:
    """ResNet-18 with a 3 x 3 stem has 11.17 M parameters and 0.56 G multiply-adds on CIFAR."""
    network = outline("resnet18", (3, 32, 32))

    assert 11_173_962 == sum(parameter.numel() for parameter in network.parameters())
    assert 555_422_720 == macs(layers_of(network, (3, 32, 32)))


@pytest.mark.parametrize("width", [1, 4, 8])
def test_width_is_that_of_the_first_stage(width: int) -> None:
    """Stages have one, two and four times the width."""
    weights = prunable_weights(models["resnet8"].function((3, 8, 8), 5, width=width))

    assert (width, 3, 3, 3) == weights["stem.weight"].shape
    assert (5, 4 * width) == weights["head.weight"].shape


def test_mlp_widths() -> None:
    """The multilayer perceptron is LeNet-300-100 by default."""
    default = prunable_weights(outline("mlp", (1, 28, 28)))
    other = prunable_weights(models["mlp"].function((2, 3, 4), 5, widths=(6,)))

    assert [(300, 784), (100, 300), (10, 100)] == [tuple(weight.shape) for weight in default.values()]
    assert [(6, 24), (5, 6)] == [tuple(weight.shape) for weight in other.values()]


@pytest.mark.parametrize(
    "options",
    [
        {"name": "wide_resnet", "depth": 9994},
        {"name": "resnet8", "width": 10**400},
        {"name": "vgg", "stages": ((1,) * 101,)},
        {"name": "mlp", "widths": (1,) * 1001},
        {"name": "mlp", "widths": (2**30,)},
    ],
)
def test_options_have_an_upper_limit(options: dict[str, Any]) -> None:
    """A network that no machine builds is refused by its numbers, in specs and in cards."""
    with pytest.raises(ValidationError):
        TypeAdapter(ModelChoice).validate_python(options)
