"""VGG with BatchNorm for small images (Simonyan & Zisserman 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge

from autosparse.lazy_torch import torch
from autosparse.models._base import models

Shape = tuple[int, int, int]
Width = Annotated[int, Ge(1), "channels of the first stage; later ones have up to eight times as many"]


@models.register
def vgg11(shape: Shape, classes: int, *, width: Width = 64) -> torch.nn.Module:
    """VGG-11 with BatchNorm and one linear layer: eight convolutions."""
    return _vgg(shape, classes, (1, 1, 2, 2, 2), width)


@models.register
def vgg13(shape: Shape, classes: int, *, width: Width = 64) -> torch.nn.Module:
    """VGG-13 with BatchNorm and one linear layer: ten convolutions."""
    return _vgg(shape, classes, (2, 2, 2, 2, 2), width)


@models.register
def vgg16(shape: Shape, classes: int, *, width: Width = 64) -> torch.nn.Module:
    """VGG-16 with BatchNorm and one linear layer: thirteen convolutions."""
    return _vgg(shape, classes, (2, 2, 3, 3, 3), width)


@models.register
def vgg19(shape: Shape, classes: int, *, width: Width = 64) -> torch.nn.Module:
    """VGG-19 with BatchNorm and one linear layer: sixteen convolutions."""
    return _vgg(shape, classes, (2, 2, 4, 4, 4), width)


@models.register
def vgg(
    shape: Shape,
    classes: int,
    *,
    stages: Annotated[
        tuple[tuple[Annotated[int, Ge(1)], ...], ...], "channels of each stage's convolutions; pooling between stages"
    ] = ((32,), (64,), (128, 128), (128, 128)),
) -> torch.nn.Module:
    """VGG with BatchNorm, of any size; as it stands six convolutions and 0.54 M weights, for a CPU."""
    from autosparse.models.networks import VGG

    return VGG(shape, classes, stages=stages)


def _vgg(shape: Shape, classes: int, convolutions: Sequence[int], width: int) -> torch.nn.Module:
    from autosparse.models.networks import VGG

    widths = (width, 2 * width, 4 * width, 8 * width, 8 * width)
    stages = [(channels,) * count for channels, count in zip(widths, convolutions, strict=True)]
    return VGG(shape, classes, stages=stages)
