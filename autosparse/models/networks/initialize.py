"""How networks draw their first weights."""

from __future__ import annotations

import math

from torch import nn

from autosparse.core.weights import prunable_weights


def initialize(network: nn.Module) -> None:
    """Kaiming normal, fan-in, for every convolution (He et al. 2015); the rest keeps torch's own."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")


def draw(network: nn.Module, how: str) -> None:
    """Draw all prunable weights anew, scaled for ReLU: kaiming_normal, kaiming_uniform (He et al. 2015), orthogonal
    (Saxe et al. 2014). Everything else keeps what the network gave it.
    """
    for weight in prunable_weights(network).values():
        match how:
            case "kaiming_normal":
                nn.init.kaiming_normal_(weight, mode="fan_in", nonlinearity="relu")
            case "kaiming_uniform":
                nn.init.kaiming_uniform_(weight, mode="fan_in", nonlinearity="relu")
            case "orthogonal":
                nn.init.orthogonal_(weight, gain=math.sqrt(2))
            case _:
                raise ValueError(f"no initialization is named {how!r}")
