"""Small networks: LeNet-5 (LeCun et al. 1998), a multilayer perceptron, a MobileNet (Howard et al. 2017)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated

from annotated_types import Ge, MinLen

from autosparse.lazy_torch import torch
from autosparse.models._base import models


@models.register
def lenet(shape: tuple[int, int, int], classes: int) -> torch.nn.Module:
    """LeNet-5 with ReLU and max pooling: two convolutions and three linear layers."""
    from autosparse.models.networks import LeNet

    return LeNet(shape, classes)


@models.register
def mlp(
    shape: tuple[int, int, int],
    classes: int,
    *,
    widths: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1), "units of each hidden layer"] = (300, 100),
) -> torch.nn.Module:
    """Fully connected network (LeNet-300-100 by default)."""
    sizes = [math.prod(shape), *widths]
    layers: list[torch.nn.Module] = [torch.nn.Flatten()]
    for fan_in, fan_out in pairwise(sizes):
        layers += [torch.nn.Linear(fan_in, fan_out), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(sizes[-1], classes))


@models.register
def mobilenet(
    shape: tuple[int, int, int], classes: int, *, width: Annotated[int, Ge(1), "channels of the stem"] = 32
) -> torch.nn.Module:
    """MobileNet (v1) with strides for small images: thirteen depthwise separable convolutions."""
    from autosparse.models.networks import MobileNet

    growth = ((2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), *[(16, 1)] * 5, (32, 2), (32, 1))
    return MobileNet(shape[0], classes, stem=width, blocks=[(factor * width, stride) for factor, stride in growth])
