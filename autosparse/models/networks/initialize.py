"""The initialization that networks of this package share."""

from __future__ import annotations

from torch import nn


def initialize(network: nn.Module) -> None:
    """Kaiming normal, fan-in, for every convolution (He et al. 2015); the rest keeps torch's own."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
