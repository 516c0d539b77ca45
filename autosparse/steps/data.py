"""data: a dataset's splits as bytes in memory order, with the training set's statistics."""

from __future__ import annotations

from typing import Any

from autosparse.datasets import datasets
from autosparse.lazy import torch
from autosparse.steps import operations
from autosparse.steps.work import Work


@operations.register(version=1)
def data(work: Work, *, identity: dict[str, Any]) -> None:
    """Load a dataset: `identity` is what it is, `work.access` how to reach it."""
    choice = work.access["dataset"]
    splits = datasets[choice["name"]].function(**choice["options"]).load()
    for name in ("train", "validation", "test"):
        pixels, labels = getattr(splits, name)
        work.output.write_tensors(name, {"pixels": torch.as_tensor(pixels), "labels": torch.as_tensor(labels)})
    train = torch.as_tensor(splits.train[0])
    # Over 50,000 images float32 sums drift; a histogram per channel is exact and needs no float copy of the set.
    values = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in train.unbind(dim=-1)])
    share = counts.double() / counts.sum(dim=1, keepdim=True)
    mean = share @ values
    spread = (share @ values**2 - mean**2).sqrt()
    work.output.write_tensors("statistics", {"mean": mean.float(), "spread": spread.clamp_min(1e-3).float()})
