"""data: a dataset's splits as bytes in memory order, with the training set's statistics."""

from __future__ import annotations

from typing import Any

from autosparse.datasets import open_source
from autosparse.lazy import torch
from autosparse.steps import operations
from autosparse.steps.work import Work


@operations.register(version=1)
def data(work: Work, *, identity: dict[str, Any]) -> None:
    """Load a dataset: `identity` is what it is, `work.access` how to reach it."""
    import numpy

    choice = work.access["dataset"]
    splits = open_source(choice["name"], choice["options"]).load()
    pixels = {}
    for name in ("train", "validation", "test"):
        split = getattr(splits, name)
        pixels[name] = torch.as_tensor(split.read(numpy.arange(len(split.labels))))
        work.output.write_tensors(name, {"pixels": pixels[name], "labels": torch.as_tensor(split.labels)})
    train = pixels["train"]
    # Over 50,000 images float32 sums drift; a histogram per channel is exact and needs no float copy of the set.
    values = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in train.unbind(dim=-1)])
    share = counts.double() / counts.sum(dim=1, keepdim=True)
    mean = share @ values
    spread = (share @ values**2 - mean**2).sqrt()
    work.output.write_tensors("statistics", {"mean": mean.float(), "spread": spread.clamp_min(1e-3).float()})
