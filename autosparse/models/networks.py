"""Network classes; the module imports torch, and factories import it when called."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from autosparse.core.weights import prunable_weights


def initialize(network: nn.Module) -> None:
    """Initialize every convolution by Kaiming normal, fan-in (He et al. 2015); other layers keep torch's default."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")


def draw(network: nn.Module, how: str) -> None:
    """Draw prunable weights for ReLU: Kaiming normal or uniform (He et al. 2015), orthogonal (Saxe et al. 2014)."""
    for weight in prunable_weights(network).values():
        if how == "orthogonal":
            nn.init.orthogonal_(weight, gain=math.sqrt(2))
        else:
            getattr(nn.init, f"{how}_")(weight, mode="fan_in", nonlinearity="relu")


class LeNet(nn.Module):
    """Two 5 x 5 convolutions with max pooling and three linear layers, no BatchNorm."""

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        self.conv1 = nn.Conv2d(channels, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5, padding=2)
        self.linear1 = nn.Linear(16 * (height // 4) * (width // 4), 120)
        self.linear2 = nn.Linear(120, 84)
        self.linear3 = nn.Linear(84, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = nn.functional.max_pool2d(torch.relu(self.conv2(x)), 2)
        x = torch.relu(self.linear1(x.flatten(1)))
        x = torch.relu(self.linear2(x))
        return self.linear3(x)  # type: ignore[no-any-return]


class MobileNet(nn.Module):
    """Stem, `blocks` of (outputs, stride): depthwise and pointwise convolution; mean pooling; one linear layer."""

    def __init__(self, channels: int, classes: int, *, stem: int, blocks: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        layers = _convolution(channels, stem)
        inputs = stem
        for outputs, stride in blocks:
            layers += _convolution(inputs, inputs, 3, stride, groups=inputs)
            layers += _convolution(inputs, outputs, 1)
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean(dim=(2, 3)))  # type: ignore[no-any-return]


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, *, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


class Block(nn.Module):
    """Two 3 x 3 convolutions parallel to a shortcut: a 1 x 1 convolution where the shape changes."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return torch.relu(y + self.shortcut(x))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions parallel to a shortcut; the outputs are four times the width."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(outputs)
        self.shortcut = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm1(self.conv1(x)))
        y = torch.relu(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(y))
        return torch.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    """Stages of blocks, each after the first at half the resolution; mean pooling; one linear layer."""

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        widths: Sequence[int],
        blocks: Sequence[int],
        block: type[Block] | type[Bottleneck] = Block,
        stem: int | None = None,
    ) -> None:
        super().__init__()
        inputs = stem or widths[0]
        self.stem = nn.Conv2d(channels, inputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(inputs)
        stages: list[nn.Module] = []
        for number, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            stage: list[nn.Module] = []
            for position in range(count):
                stage.append(block(inputs, width, 2 if number > 0 and position == 0 else 1))
                inputs = width * block.expansion
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(inputs, classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = self.stages(x).mean(dim=(2, 3))
        return self.head(x)  # type: ignore[no-any-return]


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class VGG(nn.Module):
    """Stages of 3 x 3 convolutions, by their channels, with BatchNorm; mean pooling; one linear layer.

    Later stages begin with max pooling while the image is at least 2 pixels wide, so that small images pass too.
    """

    def __init__(self, shape: Sequence[int], classes: int, *, stages: Sequence[Sequence[int]]) -> None:
        super().__init__()
        inputs, height, width = shape
        size = min(height, width)
        layers: list[nn.Module] = []
        for number, channels in enumerate(stages):
            if number and size >= 2:
                layers.append(nn.MaxPool2d(2))
                size //= 2
            for outputs in channels:
                layers += _convolution(inputs, outputs)
                inputs = outputs
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean(dim=(2, 3)))  # type: ignore[no-any-return]
