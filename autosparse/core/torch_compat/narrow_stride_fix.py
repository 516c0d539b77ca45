"""A workaround for strided 1×1 convolutions of few channels, whose kernel writes out of bounds.

Imported when a network is built, as it imports torch.
"""

from __future__ import annotations

from autosparse.lazy_torch import torch

_VECTOR = 16  # channels that the kernel processes at once


class Conv2d(torch.nn.Conv2d):
    """A 1×1 convolution that first takes every second (third, ...) pixel, then has stride 1: the same sums."""

    def _conv_forward(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        down, right = self.stride
        return torch.nn.functional.conv2d(input[..., ::down, ::right], weight, bias)


def avoid_narrow_strides(network: torch.nn.Module) -> torch.nn.Module:
    """Replace strided 1×1 convolutions of fewer than 16 input channels in place, and return `network`.

    In channels_last on a CPU, the gradient of their weights is written out of bounds: the process crashes, or goes on
    with corrupted memory. Found in torch 2.14.1, in oneDNN's kernels `jit_1x1` of AVX-512 and AVX2.
    """
    for module in network.modules():
        if type(module) is torch.nn.Conv2d and _is_narrow(module):
            module.__class__ = Conv2d
    return network


def _is_narrow(module: torch.nn.Conv2d) -> bool:
    return (
        module.kernel_size == (1, 1)
        and module.stride != (1, 1)
        and module.padding in ((0, 0), "valid")
        and module.groups == 1
        and module.in_channels < _VECTOR
    )
