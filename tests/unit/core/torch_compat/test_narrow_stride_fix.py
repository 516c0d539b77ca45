"""The way around a kernel that writes past its memory."""

from __future__ import annotations

import pytest
import torch

from autosparse.core.torch_compat.narrow_stride_fix import avoid_narrow_strides
from autosparse.models import build_model


def layer(inputs: int = 8, outputs: int = 16, kernel: int = 1, **options: object) -> torch.nn.Sequential:
    """A network of one convolution."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(inputs, outputs, kernel, **{"stride": 2, **options}))  # type: ignore[arg-type]


@pytest.mark.parametrize("stride", [2, 3, (2, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_outputs_and_gradients_are_those_of_the_strided_convolution(stride: object, bias: bool) -> None:
    """Outputs, and gradients of weights, bias and images."""
    images = torch.randn(4, 8, 9, 7, generator=torch.Generator().manual_seed(0))
    result = []
    for network in (layer(stride=stride, bias=bias), avoid_narrow_strides(layer(stride=stride, bias=bias))):
        inputs = images.clone().requires_grad_()
        outputs = network(inputs)
        (outputs**2).sum().backward()
        result.append([outputs, inputs.grad, *(parameter.grad for parameter in network.parameters())])

    for expected, actual in zip(*result, strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(
    "options",
    [{"inputs": 16}, {"kernel": 3}, {"stride": 1}, {"groups": 2}, {"padding": 1}, {"padding": "same", "stride": 1}],
)
def test_other_convolutions_stay_as_they_are(options: dict[str, object]) -> None:
    """Wide ones, larger kernels, those without a stride, grouped and padded ones."""
    assert type(avoid_narrow_strides(layer(**options))[0]) is torch.nn.Conv2d  # type: ignore[index, arg-type]


def test_subclasses_compute_in_their_own_way() -> None:
    """A user's own convolution is left alone."""

    class Custom(torch.nn.Conv2d):
        pass

    network = torch.nn.Sequential(Custom(8, 16, 1, 2))

    assert type(avoid_narrow_strides(network)[0]) is Custom  # type: ignore[index]


def test_narrow_networks_are_built_so() -> None:
    """The shortcut of a narrow ResNet's second stage, and the network prints as usual."""
    network = build_model("resnet8", {"width": 8}, (3, 16, 16), 10)
    types = {name: type(module) for name, module in network.named_modules()}
    changed = [name for name, kind in types.items() if kind.__module__.endswith("narrow_stride_fix")]

    assert changed
    assert "Conv2d(8, 16, kernel_size=(1, 1), stride=(2, 2), bias=False)" in str(network)
