"""Products of sparse matrices give what dense layers give."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
import torch
from torch import nn

from autosparse.core.sparse.inference import apply_ways, choose_ways


def pruned(layer: nn.Module, share: float = 0.6) -> nn.Module:
    """A layer without a share of its weights."""
    with torch.no_grad():
        for weight in layer.parameters():
            if weight.ndim > 1:
                weight.mul_(torch.rand_like(weight) >= share)
    return layer.eval()


@pytest.mark.parametrize("case", range(40))
def test_a_convolution_of_any_kind(case: int) -> None:
    """Kernels, strides, paddings and dilations of two sides, few and many images, both layouts in memory."""
    drawn = random.Random(case)
    torch.manual_seed(case)
    low, high = (1, 4) if case % 2 else (2, 3)
    kernel, stride, padding, dilation = (
        (drawn.randint(first, last), drawn.randint(first, last))
        for first, last in ((low, high), (1, 3), (0, 2), (1, 2))
    )
    layer = nn.Conv2d(drawn.randint(1, 5), drawn.randint(1, 5), kernel, stride, padding, dilation, bias=case % 3 > 0)
    network: Any = nn.Sequential(pruned(layer))
    images = torch.randn(drawn.choice([1, 2, 33]), layer.in_channels, drawn.randint(8, 13), drawn.randint(8, 13))
    if case % 4:
        images = images.to(memory_format=torch.channels_last)
    expected = network(images)

    result = apply_ways(network, {"0": {"1": "sparse"}})(images)

    torch.testing.assert_close(expected, result)


@pytest.mark.parametrize("shape", [(3, 6), (2, 5, 6), (1, 1, 1, 6)])
def test_a_linear_layer(shape: tuple[int, ...]) -> None:
    """Of any number of dimensions before the last."""
    network, inputs = nn.Sequential(pruned(nn.Linear(6, 4))), torch.randn(shape)
    expected = network(inputs)

    torch.testing.assert_close(expected, apply_ways(network, {"0": {"1": "sparse"}})(inputs))


def test_the_way_is_that_of_the_nearest_number_of_images() -> None:
    """Nearest in proportion: five are nearer to one than to 32, six are not."""
    network: Any = apply_ways(nn.Sequential(pruned(nn.Linear(6, 4))), {"0": {"1": "sparse", "32": "dense"}})
    used: list[int] = []

    def multiply(inputs: torch.Tensor) -> torch.Tensor:
        used.append(len(inputs))
        return inputs

    network[0].multiply = multiply

    for count in (1, 5, 6, 32, 500):
        network(torch.zeros(count, 6))

    assert [1, 5] == used


def test_measuring_leaves_the_network_alone() -> None:
    """It gives the same outputs afterwards, and a large layer that is almost empty is faster as a sparse one."""
    network: Any = nn.Sequential(pruned(nn.Linear(2000, 2000), 0.999), nn.ReLU(), pruned(nn.Linear(2000, 3), 0.0))
    before, inputs = copy.deepcopy(network), torch.randn(2, 2000)

    choices = choose_ways(network, [inputs])

    assert torch.equal(before(inputs), network(inputs))
    assert {"2": "sparse"} == choices["0"]


@pytest.mark.parametrize("name", ["", "2", "0.dense", "1", "3", "x.y"])
def test_layers_that_cannot_be_sparse_are_refused(name: str) -> None:
    """Missing layers, and those without weights or with groups."""
    network: Any = nn.Sequential(
        nn.Linear(2, 2), nn.ReLU(), nn.Conv2d(2, 2, 1, groups=2), nn.Conv2d(2, 2, 1, padding="same")
    )

    with pytest.raises(ValueError, match="layer"):
        apply_ways(network, {name: {"1": "sparse"}})
