"""data: a dataset's splits as bytes in memory order, with the training set's statistics."""

from __future__ import annotations

from typing import Any

from autosparse.datasets import Split, open_source
from autosparse.lazy import torch
from autosparse.steps import operations
from autosparse.steps.work import Work

SHARD = 2**28
"""Bytes of pixels in one file, at most: a larger split is several, so that no more than one is ever in memory."""


@operations.register(version=1)
def data(work: Work, *, identity: dict[str, Any]) -> None:
    """Load a dataset: `identity` is what it is, `work.access` how to reach it."""
    choice = work.access["dataset"]
    splits = open_source(choice["name"], choice["options"]).load()
    images = sum(len(getattr(splits, name).labels) for name in ("train", "validation", "test"))
    counts = _write(work, "train", splits.train, 0, images)
    done = len(splits.train.labels)
    _write(work, "validation", splits.validation, done, images)
    _write(work, "test", splits.test, done + len(splits.validation.labels), images)
    # Over 50,000 images float32 sums drift; a histogram per channel is exact and needs no float copy of the set.
    values = torch.arange(256, dtype=torch.float64) / 255
    share = counts.double() / counts.sum(dim=1, keepdim=True)
    mean = share @ values
    spread = (share @ values**2 - mean**2).sqrt()
    work.output.write_tensors("statistics", {"mean": mean.float(), "spread": spread.clamp_min(1e-3).float()})


def _write(work: Work, name: str, split: Split, done: int, images: int) -> torch.Tensor:
    # The split's files; gives how often each channel has each value, [channels, 256].
    import numpy

    labels = torch.as_tensor(split.labels)
    numbers = numpy.arange(len(labels))
    first = split.read(numbers[:1])
    size = max(1, SHARD // max(1, first.nbytes))
    counts = torch.zeros((first.shape[-1], 256), dtype=torch.int64)
    for shard, start in enumerate(range(0, len(labels), size)):
        pixels = torch.as_tensor(split.read(numbers[start : start + size]))
        counts += torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in pixels.unbind(dim=-1)])
        if len(labels) <= size:
            work.output.write_tensors(name, {"pixels": pixels, "labels": labels})
            return counts
        work.output.write_tensors(f"{name}-{shard:05d}", {"pixels": pixels})
        work.observe(done + start + len(pixels), images)
    work.output.write_tensors(name, {"labels": labels})
    return counts
