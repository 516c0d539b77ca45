"""A labelled image set as bytes, in memory or on disk, and batches of it at whole-batch speed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from autosparse.core.evidence import Batch
from autosparse.lazy_torch import torch


class RowReader(Protocol):
    """Pixels on disk: `rows[numbers]` reads some, uint8 `[len(numbers), height, width, channels]`."""

    shape: tuple[int, ...]

    def __getitem__(self, numbers: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True)
class Images:
    """A labelled image set: `pixels` uint8 `[images, height, width, channels]`, `labels` int64 `[images]`.

    `mean` and `spread` are the training set's, float32 `[channels]`, in units of full scale. `readers` processes
    prefetch pixels on disk (0: this one reads). Batches are channels_last, or `contiguous` for networks that need it.
    """

    pixels: torch.Tensor | RowReader
    labels: torch.Tensor
    mean: torch.Tensor
    spread: torch.Tensor
    readers: int = 0
    contiguous: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        height, width, channels = self.pixels.shape[1:]
        return (channels, height, width)

    def to(self, device: torch.device) -> Images:
        """Return the same set on a device."""
        return replace(
            self,
            pixels=self.pixels.to(device) if isinstance(self.pixels, torch.Tensor) else self.pixels,
            labels=self.labels.to(device),
            mean=self.mean.to(device),
            spread=self.spread.to(device),
        )

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalize uint8 `[batch, height, width, channels]` to float32 `[batch, channels, height, width]`.

        The permuted view of a channels-last gather *is* torch's channels_last layout: no copy.
        """
        scaled = (pixels.float() / 255 - self.mean) / self.spread
        images = scaled.permute(0, 3, 1, 2)
        return images.contiguous() if self.contiguous else images

    def sample(self, images: int, generator: torch.Generator, *, batch: int = 256) -> list[Batch]:
        """Return batches of `images` different examples (all, if fewer), in random order, not augmented."""
        order = torch.randperm(len(self), generator=generator)[:images]
        return [*self._batches(order.split(batch_sizes(len(order), batch)))]

    def in_order(self, batch: int) -> Iterator[Batch]:
        """Yield every example once, in order."""
        return self._batches(torch.arange(len(self)).split(batch))

    def _batches(self, parts: Sequence[torch.Tensor]) -> Iterator[Batch]:
        for part, pixels in zip(parts, self.gather(parts), strict=True):
            yield self.normalize(pixels), self.labels[part.to(self.labels.device)]

    def gather(self, parts: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Yield the pixels of several batches, given by the indices of their images, on the device."""
        device = self.labels.device
        if isinstance(self.pixels, torch.Tensor):
            yield from (self.pixels[part.to(device)] for part in parts)
            return
        # Readers return whole batches: no collation, and the sampler sets the order.
        rows: Any = self.pixels
        order: Any = list(parts)
        loader: torch.utils.data.DataLoader[torch.Tensor] = torch.utils.data.DataLoader(
            rows,
            batch_size=None,
            sampler=order,
            num_workers=self.readers,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # for the workers' unused seeds: leaves the global one alone
        )
        for pixels in loader:
            yield pixels.to(device, non_blocking=True)


def batch_sizes(images: int, batch: int) -> list[int]:
    """Return the size of each batch: a last one of a single image joins the one before it.

    BatchNorm cannot take statistics over one value, all that a single image leaves at 1 x 1 pixels.
    """
    sizes = [batch] * (images // batch) + ([images % batch] if images % batch else [])
    if len(sizes) > 1 and sizes[-1] == 1:
        return [*sizes[:-2], sizes[-2] + 1]
    return sizes


def epoch(
    images: Images, *, batch: int, crop: int, flip: bool, generator: torch.Generator, cutout: int = 0
) -> Iterator[Batch]:
    """Yield every example once in random order, shifted by up to `crop` pixels, randomly mirrored, with a cutout.

    Shifts pad with zeros (black). A square of `cutout` pixels a side around a random pixel, clipped to the image, has
    the mean colour (DeVries & Taylor 2017). A seed gives the same batches on every device.
    """
    height, width = images.pixels.shape[1:3]
    device = images.labels.device
    order = torch.randperm(len(images), generator=generator)
    shift = torch.randint(0, 2 * crop + 1, (2, len(images), 1), generator=generator)
    mirror = torch.rand(len(images), 1, generator=generator) < 0.5 if flip else torch.zeros(len(images), 1).bool()
    hole = torch.rand(2, len(images), 1, generator=generator) if cutout else None
    rows = torch.arange(height) + shift[0]
    columns = torch.where(mirror, width - 1 - torch.arange(width), torch.arange(width)) + shift[1]
    sizes = batch_sizes(len(images), batch)
    parts = order.split(sizes)
    moves = zip(rows.to(device).split(sizes), columns.to(device).split(sizes), strict=True)
    if isinstance(images.pixels, torch.Tensor):
        padded = _pad(images.pixels, crop)
        batches = ((padded, part.to(device)) for part in parts)
    else:  # the same pixels, padded a batch at a time
        batches = ((_pad(pixels, crop), torch.arange(len(pixels), device=device)) for pixels in images.gather(parts))
    keeps: Sequence[Any] = (
        [None] * len(parts) if hole is None else _outside(hole, (height, width), cutout, device).split(sizes)
    )
    for part, (padded, index), (row, column), keep in zip(parts, batches, moves, keeps, strict=True):
        pixels = padded[index[:, None, None], row[:, :, None], column[:, None, :]]
        inputs = images.normalize(pixels)
        yield inputs if keep is None else inputs * keep, images.labels[part.to(device)]


def _outside(centre: torch.Tensor, sides: tuple[int, int], cutout: int, device: torch.device) -> torch.Tensor:
    # False in the square, bool [images, 1, height, width]; centres in [0, 1) as [2, images, 1].
    inside: list[torch.Tensor] = []
    for coordinate, side in zip(centre, sides, strict=True):
        begin = (coordinate * side).long() - cutout // 2
        pixel = torch.arange(side)
        inside.append((pixel >= begin) & (pixel < begin + cutout))
    rows, columns = inside
    return ~(rows[:, None, :, None] & columns[:, None, None, :]).to(device)


def _pad(pixels: torch.Tensor, crop: int) -> torch.Tensor:
    return torch.nn.functional.pad(pixels, (0, 0, crop, crop, crop, crop)) if crop else pixels
