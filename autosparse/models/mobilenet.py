"""A MobileNet for small images (Howard et al. 2017)."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from autosparse.lazy_torch import torch
from autosparse.models import models


@models.register
def mobilenet(
    shape: tuple[int, int, int], classes: int, *, width: Annotated[int, Ge(1), "channels of the stem"] = 32
) -> torch.nn.Module:
    """MobileNet (v1) with strides for small images: thirteen depthwise separable convolutions."""
    from autosparse.models.networks.mobilenet import MobileNet

    growth = ((2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), *[(16, 1)] * 5, (32, 2), (32, 1))
    return MobileNet(shape[0], classes, stem=width, blocks=[(factor * width, stride) for factor, stride in growth])
