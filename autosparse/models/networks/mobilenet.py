"""A small MobileNet: depthwise separable convolutions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from autosparse.models.networks.initialize import initialize


class MobileNet(nn.Module):
    """A 3 x 3 stem, then pairs of depthwise 3 x 3 and pointwise 1 x 1 convolutions; mean pooling; one linear layer.

    `blocks` are (outputs, stride) of each pair.
    """

    def __init__(self, channels: int, classes: int, *, stem: int, blocks: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        layers = _convolution(channels, stem, 3, 1, groups=1)
        inputs = stem
        for outputs, stride in blocks:
            layers += _convolution(inputs, inputs, 3, stride, groups=inputs)
            layers += _convolution(inputs, outputs, 1, 1, groups=1)
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean(dim=(2, 3)))  # type: ignore[no-any-return]


def _convolution(inputs: int, outputs: int, kernel: int, stride: int, *, groups: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]
