"""VGG with BatchNorm, for small images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from autosparse.models.networks.initialize import initialize


class VGG(nn.Module):
    """3 x 3 convolutions with BatchNorm, max pooling between stages, mean pooling, one linear layer.

    `stages` are the channels of each stage's convolutions. A stage begins with pooling while the image is
    at least 2 pixels wide, so that small images pass too.
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
                layers += [
                    nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                    nn.BatchNorm2d(outputs),
                    nn.ReLU(inplace=True),
                ]
                inputs = outputs
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean(dim=(2, 3)))  # type: ignore[no-any-return]
