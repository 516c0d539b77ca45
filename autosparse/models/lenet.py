"""LeNet-5 (LeCun et al. 1998)."""

from __future__ import annotations

from autosparse.lazy_torch import torch
from autosparse.models import models


@models.register
def lenet(shape: tuple[int, int, int], classes: int) -> torch.nn.Module:
    """LeNet-5 with ReLU and max pooling: two convolutions and three linear layers."""
    from autosparse.models.networks.lenet import LeNet

    return LeNet(shape, classes)
