"""A labelled image set that lies in memory as bytes, and batches of it at whole-batch speed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from autosparse.core.evidence import Batch
from autosparse.lazy import torch


@dataclass(frozen=True)
class Images:
    """`pixels` uint8 `[images, height, width, channels]`, `labels` int64 `[images]`.

    `mean` and `spread` are the training set's per channel, in units of full scale, float32 `[channels]`.
    """

    pixels: torch.Tensor
    labels: torch.Tensor
    mean: torch.Tensor
    spread: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        height, width, channels = self.pixels.shape[1:]
        return (channels, height, width)

    def to(self, device: torch.device) -> Images:
        """The same set on a device."""
        return replace(
            self,
            pixels=self.pixels.to(device),
            labels=self.labels.to(device),
            mean=self.mean.to(device),
            spread=self.spread.to(device),
        )

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 `[batch, height, width, channels]` -> float32 `[batch, channels, height, width]`.

        The permuted view of a channels-last gather *is* torch's channels_last layout: nothing is copied.
        """
        scaled = (pixels.float() / 255 - self.mean) / self.spread
        return scaled.permute(0, 3, 1, 2)

    def sample(self, images: int, generator: torch.Generator, *, batch: int = 256) -> list[Batch]:
        """Batches of `images` different examples (all, if there are fewer), in random order, not augmented."""
        order = torch.randperm(len(self), generator=generator)[:images].to(self.labels.device)
        return [
            (self.normalize(self.pixels[part]), self.labels[part])
            for part in order.split(batch_sizes(len(order), batch))
        ]

    def in_order(self, batch: int) -> Iterator[Batch]:
        """Every example once, in order."""
        for start in range(0, len(self), batch):
            part = slice(start, start + batch)
            yield self.normalize(self.pixels[part]), self.labels[part]


def batch_sizes(images: int, batch: int) -> list[int]:
    """How many images each batch holds: a last one of a single image joins the one before it.

    BatchNorm cannot take statistics over one value, which is what a single image leaves at 1 x 1 pixels.
    """
    sizes = [batch] * (images // batch) + ([images % batch] if images % batch else [])
    if len(sizes) > 1 and sizes[-1] == 1:
        return [*sizes[:-2], sizes[-2] + 1]
    return sizes


def epoch(images: Images, *, batch: int, crop: int, flip: bool, generator: torch.Generator) -> Iterator[Batch]:
    """Every example once in random order, each shifted by up to `crop` pixels and mirrored at random.

    A shift brings in zeros (black), as padding before a crop does. One gather does order, crop and flip.
    Random numbers come from the CPU, so that a seed means the same batches on every device.
    """
    height, width = images.pixels.shape[1:3]
    device = images.pixels.device
    padded = torch.nn.functional.pad(images.pixels, (0, 0, crop, crop, crop, crop)) if crop else images.pixels
    order = torch.randperm(len(images), generator=generator)
    shift = torch.randint(0, 2 * crop + 1, (2, len(images), 1), generator=generator)
    mirror = torch.rand(len(images), 1, generator=generator) < 0.5 if flip else torch.zeros(len(images), 1).bool()
    rows = torch.arange(height) + shift[0]
    columns = torch.where(mirror, width - 1 - torch.arange(width), torch.arange(width)) + shift[1]
    order, rows, columns = order.to(device), rows.to(device), columns.to(device)
    sizes = batch_sizes(len(images), batch)
    for part, row, column in zip(order.split(sizes), rows.split(sizes), columns.split(sizes), strict=True):
        pixels = padded[part[:, None, None], row[:, :, None], column[:, None, :]]
        yield images.normalize(pixels), images.labels[part]
