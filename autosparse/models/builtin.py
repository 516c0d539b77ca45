"""Networks for small images: LeNet, MLP, MobileNet, ResNet (He et al. 2016), VGG (Simonyan & Zisserman 2015)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

from annotated_types import Ge, Le, MaxLen, MinLen

from autosparse.errors import UsageError
from autosparse.lazy_torch import torch
from autosparse.models._base import Shape, models

Width = Annotated[int, Ge(1), Le(4096), "number of channels of the first stage"]


def _resnet(name: str, base: int, blocks: Sequence[int], about: str, block: str = "Block") -> None:
    @models.register(name=name)
    def resnet(shape: Shape, classes: int, *, width: Width = base) -> torch.nn.Module:
        from autosparse.models import networks

        widths = [width * 2**stage for stage in range(len(blocks))]
        return networks.ResNet(shape[0], classes, widths=widths, blocks=blocks, block=getattr(networks, block))

    resnet.__doc__ = about


_resnet("resnet8", 16, (1, 1, 1), "CIFAR-family ResNet of depth 8: three stages of one block.")
_resnet("resnet20", 16, (3, 3, 3), "CIFAR-family ResNet of depth 20: three stages of three blocks.")
_resnet("resnet32", 16, (5, 5, 5), "CIFAR-family ResNet of depth 32: three stages of five blocks.")
_resnet("resnet56", 16, (9, 9, 9), "CIFAR-family ResNet of depth 56: three stages of nine blocks.")
_resnet("resnet18", 64, (2, 2, 2, 2), "ResNet-18 with a 3 x 3 stem for small images: four stages of two blocks.")
_resnet("resnet34", 64, (3, 4, 6, 3), "ResNet-34 with a 3 x 3 stem for small images: sixteen blocks in four stages.")
_resnet(
    "resnet50", 64, (3, 4, 6, 3),
    "ResNet-50 with a 3 x 3 stem for small images: sixteen bottleneck blocks in four stages.", "Bottleneck",
)  # fmt: skip


@models.register
def wide_resnet(
    shape: Shape,
    classes: int,
    *,
    depth: Annotated[int, Ge(10), Le(1000), "6 n + 4: n blocks in each of three stages"] = 16,
    widen: Annotated[int, Ge(1), Le(256), "width factor over the CIFAR-family ResNet"] = 4,
) -> torch.nn.Module:
    """Wide ResNet, basic blocks (Zagoruyko & Komodakis 2016)."""
    from autosparse.models.networks import ResNet

    if depth % 6 != 4:
        raise UsageError(f"`depth` of wide_resnet must be 6 n + 4 but is {depth}", "such as 16, 22, 28 or 40")
    widths = (16 * widen, 32 * widen, 64 * widen)
    return ResNet(shape[0], classes, widths=widths, blocks=((depth - 4) // 6,) * 3, stem=16)


Channels = Annotated[int, Ge(1), Le(2**16)]
Units = Annotated[int, Ge(1), Le(2**20)]
VggWidth = Annotated[
    int, Ge(1), Le(4096), "number of channels of the first stage; up to eight times as many in later stages"
]


def _vgg(name: str, convolutions: Sequence[int], about: str) -> None:
    @models.register(name=name)
    def vgg(shape: Shape, classes: int, *, width: VggWidth = 64) -> torch.nn.Module:
        from autosparse.models.networks import VGG

        widths = (width, 2 * width, 4 * width, 8 * width, 8 * width)
        return VGG(shape, classes, stages=[(w,) * count for w, count in zip(widths, convolutions, strict=True)])

    vgg.__doc__ = about


_vgg("vgg11", (1, 1, 2, 2, 2), "VGG-11 with BatchNorm and one linear layer: eight convolutions.")
_vgg("vgg13", (2, 2, 2, 2, 2), "VGG-13 with BatchNorm and one linear layer: ten convolutions.")
_vgg("vgg16", (2, 2, 3, 3, 3), "VGG-16 with BatchNorm and one linear layer: thirteen convolutions.")
_vgg("vgg19", (2, 2, 4, 4, 4), "VGG-19 with BatchNorm and one linear layer: sixteen convolutions.")


@models.register
def vgg(
    shape: Shape,
    classes: int,
    *,
    stages: Annotated[
        Annotated[tuple[Annotated[tuple[Channels, ...], MaxLen(100)], ...], MaxLen(12)],
        "channels of each stage's convolutions; pooling between stages",
    ] = ((32,), (64,), (128, 128), (128, 128)),
) -> torch.nn.Module:
    """VGG with BatchNorm, of any size; by default six convolutions and 0.54 M weights, for a CPU."""
    from autosparse.models.networks import VGG

    return VGG(shape, classes, stages=stages)


@models.register
def lenet(shape: Shape, classes: int) -> torch.nn.Module:
    """LeNet-5 with ReLU and max pooling: two convolutions and three linear layers."""
    from autosparse.models.networks import LeNet

    return LeNet(shape, classes)


@models.register
def mlp(
    shape: Shape,
    classes: int,
    *,
    widths: Annotated[tuple[Units, ...], MinLen(1), MaxLen(1000), "number of units per hidden layer"] = (300, 100),
) -> torch.nn.Module:
    """Fully connected network (LeNet-300-100 by default)."""
    sizes = [math.prod(shape), *widths]
    layers: list[torch.nn.Module] = [torch.nn.Flatten()]
    for fan_in, fan_out in pairwise(sizes):
        layers += [torch.nn.Linear(fan_in, fan_out), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(sizes[-1], classes))


@models.register
def mobilenet(
    shape: Shape, classes: int, *, width: Annotated[int, Ge(1), Le(4096), "number of channels of the stem"] = 32
) -> torch.nn.Module:
    """MobileNet (v1) with strides for small images: thirteen depthwise separable convolutions."""
    from autosparse.models.networks import MobileNet

    growth = ((2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), *[(16, 1)] * 5, (32, 2), (32, 1))
    return MobileNet(shape[0], classes, stem=width, blocks=[(factor * width, stride) for factor, stride in growth])
