"""Residual networks for small images (He et al. 2016)."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from autosparse.errors import UsageError
from autosparse.lazy_torch import torch
from autosparse.models._base import models

Shape = tuple[int, int, int]
Width = Annotated[int, Ge(1), "channels of the first stage"]


@models.register
def resnet8(shape: Shape, classes: int, *, width: Width = 16) -> torch.nn.Module:
    """CIFAR-family ResNet of depth 8: three stages of one block."""
    return _cifar(shape, classes, blocks=1, width=width)


@models.register
def resnet20(shape: Shape, classes: int, *, width: Width = 16) -> torch.nn.Module:
    """CIFAR-family ResNet of depth 20: three stages of three blocks."""
    return _cifar(shape, classes, blocks=3, width=width)


@models.register
def resnet32(shape: Shape, classes: int, *, width: Width = 16) -> torch.nn.Module:
    """CIFAR-family ResNet of depth 32: three stages of five blocks."""
    return _cifar(shape, classes, blocks=5, width=width)


@models.register
def resnet56(shape: Shape, classes: int, *, width: Width = 16) -> torch.nn.Module:
    """CIFAR-family ResNet of depth 56: three stages of nine blocks."""
    return _cifar(shape, classes, blocks=9, width=width)


@models.register
def resnet18(shape: Shape, classes: int, *, width: Width = 64) -> torch.nn.Module:
    """ResNet-18 with a 3 x 3 stem for small images: four stages of two blocks."""
    from autosparse.models.networks import ResNet

    return ResNet(shape[0], classes, widths=(width, 2 * width, 4 * width, 8 * width), blocks=(2, 2, 2, 2))


@models.register
def resnet34(shape: Shape, classes: int, *, width: Width = 64) -> torch.nn.Module:
    """ResNet-34 with a 3 x 3 stem for small images: sixteen blocks in four stages."""
    from autosparse.models.networks import ResNet

    return ResNet(shape[0], classes, widths=(width, 2 * width, 4 * width, 8 * width), blocks=(3, 4, 6, 3))


@models.register
def resnet50(shape: Shape, classes: int, *, width: Width = 64) -> torch.nn.Module:
    """ResNet-50 with a 3 x 3 stem for small images: sixteen bottleneck blocks in four stages."""
    from autosparse.models.networks import Bottleneck, ResNet

    widths = (width, 2 * width, 4 * width, 8 * width)
    return ResNet(shape[0], classes, widths=widths, blocks=(3, 4, 6, 3), block=Bottleneck, stem=width)


@models.register
def wide_resnet(
    shape: Shape,
    classes: int,
    *,
    depth: Annotated[int, Ge(10), "6 n + 4: n blocks in each of three stages"] = 16,
    widen: Annotated[int, Ge(1), "how many times as wide as the CIFAR-family ResNet"] = 4,
) -> torch.nn.Module:
    """Wide ResNet, basic blocks (Zagoruyko & Komodakis 2016)."""
    from autosparse.models.networks import ResNet

    if depth % 6 != 4:
        raise UsageError(f"`depth` of wide_resnet must be 6 n + 4 but is {depth}", "such as 16, 22, 28 or 40")
    widths = (16 * widen, 32 * widen, 64 * widen)
    return ResNet(shape[0], classes, widths=widths, blocks=((depth - 4) // 6,) * 3, stem=16)


def _cifar(shape: Shape, classes: int, *, blocks: int, width: int) -> torch.nn.Module:
    from autosparse.models.networks import ResNet

    return ResNet(shape[0], classes, widths=(width, 2 * width, 4 * width), blocks=(blocks,) * 3)
