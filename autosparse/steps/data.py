"""data: a dataset's splits as bytes in memory order, with the training set's statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from autosparse.core.images import RowReader
from autosparse.core.weights import Tensors
from autosparse.datasets import Split, open_source
from autosparse.datasets.decode import SET_SIZE
from autosparse.errors import StepError
from autosparse.lazy_torch import numpy, torch
from autosparse.steps._base import Content, Context, StepResult, operations, reading
from autosparse.steps.workload import Facts, Workload
from autosparse.store import digest

_DECODERS = 64 * 2**20  # bytes to read a dataset in addition to its images, such as encoded files

_SPLITS = ("train", "validation", "test")

SHARD = 2**28
"""Maximum bytes of pixels in one file: a larger split has several, of which one at a time is in memory."""


@dataclass(frozen=True)
class DataResult(StepResult):
    """Tensors alone: `statistics`, and for each split a file, or one of labels and several of pixels, its shards."""

    FILE: ClassVar[str] = ""

    def files(self) -> set[str]:
        """Return the names of the files that the step writes, with the shards of each split."""
        shards = [shard for split in _SPLITS for shard in self.shards(split)]
        return {*super().files(), *(f"{name}.safetensors" for name in (*_SPLITS, *shards))}

    def check_contents(self) -> None:
        """Read the statistics, and the form and labels of every split."""
        super().check_contents()
        for split in _SPLITS:
            self.images(split, in_memory=False)

    @Content
    def statistics(self) -> Tensors:
        """`mean` and `spread` (standard deviation) of the training set's pixels / 255, float32 `[channels]`."""
        statistics = self.artifact.tensors("statistics")
        for name in ("mean", "spread"):
            is_one = name in statistics and statistics[name].dtype == torch.float32 and statistics[name].dim() == 1
            fits = is_one and len(statistics[name]) == len(statistics["mean"]) and 0 < len(statistics[name])
            self.require(fits, f"statistics.safetensors: `{name}` is not float32 [channels]")
            low = 0 if name == "mean" else 1e-4
            within = bool(((statistics[name] >= low) & (statistics[name] <= 1.001)).all())
            self.require(within, f"statistics.safetensors: `{name}` is not within {low} and 1")
        return statistics

    def shards(self, split: str) -> list[str]:
        """Return the files that hold a split's pixels apart from its labels, in order."""
        return sorted(name.removesuffix(".safetensors") for name in self.artifact.files if name.startswith(f"{split}-"))

    def class_counts(self, split: str) -> list[int]:
        """Return the number of a split's images in each class that has any."""
        labels = self.artifact.array(split, "labels")
        is_row = labels.ndim == 1 and labels.dtype.kind in "iu" and bool((labels >= 0).all())
        self.require(is_row, f"{split}.safetensors: `labels` is not one row of classes")
        counts: list[int] = numpy.unique(labels, return_counts=True)[1].tolist()
        return counts

    def images(self, split: str, *, in_memory: bool) -> tuple[torch.Tensor | RowReader, torch.Tensor]:
        """Return pixels, uint8 `[images, height, width, channels]`, which may stay on disk, and labels, `[images]`."""
        with reading(self.artifact, f"{split}.safetensors"):
            return self._images(split, in_memory=in_memory)

    def _images(self, split: str, *, in_memory: bool) -> tuple[torch.Tensor | RowReader, torch.Tensor]:
        files = self.shards(split) or [split]
        if in_memory:
            parts = {name: self.artifact.tensors(name) for name in dict.fromkeys([*files, split])}
            rows = {parts[name]["pixels"].shape[1:] for name in files[:1] if "pixels" in parts[name]}
            for name in files:
                fits = "pixels" in parts[name] and parts[name]["pixels"].shape[1:] in rows
                self.require(fits, f"{name}.safetensors: `pixels` is missing or not shaped as those before")
            tensors = [parts[name]["pixels"] for name in files]
            pixels: torch.Tensor | RowReader = tensors[0] if len(tensors) == 1 else torch.cat(tensors)
            labels = parts[split].get("labels")
        else:
            pixels, labels = self.artifact.rows(files, "pixels"), self.artifact.tensor(split, "labels")
        shape = (*pixels.shape[:3], len(self.statistics["mean"]))
        is_images = getattr(pixels, "dtype", torch.uint8) == torch.uint8 and pixels.shape == shape and len(shape) == 4
        self.require(is_images, f"{files[0]}.safetensors: `pixels` is not uint8 [images, height, width, channels]")
        is_row = labels is not None and labels.shape == shape[:1] and not labels.is_floating_point()
        if labels is None or not is_row or labels.dtype == torch.bool or int(labels.min()) < 0:
            raise self.artifact.malformed(f"{split}.safetensors: `labels` is not one class for each image")
        return pixels, labels


def data_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of loading and decoding every image once."""
    size = facts.images * facts.image_bytes
    return Workload(
        {"identity": options["identity"]},
        {"step": 1, "open": 1, "decoded": size},
        ({"bytes": 3 * size + _DECODERS},),
        size + 8 * facts.images,
        depends_on_network=False,
        runs_network=False,
    )


@operations.register(result=DataResult, cost=data_cost, version=2, spec_paths={"identity": "dataset"})
def data(context: Context, *, identity: dict[str, Any]) -> None:
    """Load the dataset of this `identity` through `context.access`."""
    choice = context.access["dataset"]
    source = open_source(choice["name"], choice["options"])
    if digest(dict(source.identity)) != digest(identity):
        raise StepError(
            f"dataset `{choice['name']}` has changed since it was planned", "run again: the plan is compiled again"
        )
    splits = source.load()
    images = sum(len(splits[name].labels) for name in ("train", "validation", "test"))
    channels, height, width = source.shape
    done, counts = 0, {}
    for name in ("train", "validation", "test"):
        split = splits[name]
        counts[name] = _write(context, name, split, (height, width, channels), done, images)
        done += len(split.labels)
    # Over 50,000 images float32 sums drift; a histogram per channel is exact and needs no float copy of the set.
    values = torch.arange(256, dtype=torch.float64) / 255
    share = counts["train"].double() / counts["train"].sum(dim=1, keepdim=True)
    mean = share @ values
    spread = (share @ values**2 - mean**2).sqrt()
    statistics = {"mean": mean.float(), "spread": spread.clamp_min(1e-3).float()}
    DataResult().write(context.output, statistics=statistics)


def _write(
    context: Context, name: str, split: Split, shape: tuple[int, int, int], before: int, images: int
) -> torch.Tensor:
    # Writes the split's files; returns the counts of each value in each channel, [channels, 256].
    labels = torch.as_tensor(split.labels)
    numbers = numpy.arange(len(labels))
    size = max(1, SHARD // math.prod(shape))
    counts = torch.zeros((shape[-1], 256), dtype=torch.int64)
    for shard, start in enumerate(range(0, len(labels), size)):
        pixels = torch.as_tensor(split.read(numbers[start : start + size]))
        if pixels.shape[1:] != shape:
            actual, planned = (" x ".join(map(str, sizes[:2])) for sizes in (pixels.shape[1:], shape))
            raise StepError(f"images for {name} are {actual}, the first for training is {planned}", SET_SIZE)
        counts += torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in pixels.unbind(dim=-1)])
        context.observe(before + start + len(pixels), images)
        if len(labels) <= size:
            context.output.write_tensors(name, {"pixels": pixels, "labels": labels})
            return counts
        context.output.write_tensors(f"{name}-{shard:05d}", {"pixels": pixels})
    context.output.write_tensors(name, {"labels": labels})
    return counts
