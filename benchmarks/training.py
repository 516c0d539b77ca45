"""Training against the loop that everybody writes first: what `autosparse bench` does not tell.

`python benchmarks/training.py memory [NETWORK]...`: the peak of a process that trains, by either loop, under masks.
`python benchmarks/training.py accuracy DATA`: ResNet-20 by both at three seeds, on 10,000 images of CIFAR-10 in Parquet
files for five epochs. `python benchmarks/training.py irp DATA`: the seconds of ten rounds of IRP by both, of one epoch
of a quarter of them. `python benchmarks/training.py profile`: where the time of a step goes.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from typing import Literal

import numpy
import torch

from autosparse.backends import this_machine
from autosparse.core.images import Images
from autosparse.core.irp import irp_round, keep_after, prune_survivors, rewind
from autosparse.core.training import Recipe, accuracy, train
from autosparse.core.weights import Tensors, prunable_weights, total_of
from autosparse.datasets import open_source
from autosparse.models import build_model
from autosparse.plan.plain import accuracy_plainly, train_plainly
from autosparse.plan.probe import made_up_images

BATCH, SEEDS, IRP_ROUNDS = 128, 3, 10
NETWORKS, SHAPE = ("resnet20", "resnet18"), (3, 32, 32)
PRECISION: Literal["bfloat16", "float32"] = "bfloat16" if this_machine().bfloat16("cpu") else "float32"
RECIPE = Recipe(epochs=5, batch=BATCH, lr=0.1, schedule="one_cycle", precision=PRECISION)


def build(name: str, seed: int) -> torch.nn.Module:
    """One of NETWORKS, its weights drawn anew."""
    torch.manual_seed(seed)
    return build_model(name, {}, SHAPE, 10)


def peak(way: str, name: str) -> float:
    """MiB that this process held at most, after eight steps of one loop on random pixels."""
    images, model = noise(BATCH * 8), build(name, 0)
    masks = random_masks(model)
    _either(way, model, images, replace(RECIPE, epochs=1), masks)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def memory(*names: str) -> None:
    """Peaks of both loops, each in a process of its own; that of the plain one without its readers."""
    for name in names or NETWORKS:
        found = {}
        for way in ("plain", "own"):
            command = [sys.executable, __file__, "peak", way, name]
            found[way] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        ratio = found["own"] / found["plain"]
        print(f"{name:10} plain {found['plain']:,.0f} MiB, autosparse {found['own']:,.0f} MiB: {ratio:.2f}", flush=True)


def _either(
    way: str, model: torch.nn.Module, images: Images, recipe: Recipe, masks: Tensors | None = None, seed: int = 0
) -> None:
    torch.manual_seed(seed)
    if way == "plain":
        train_plainly(model, images, recipe, masks=masks)
    else:
        train(model, images, recipe, torch.Generator().manual_seed(seed), masks=masks)


def accuracies(data: str) -> None:
    """Test accuracy of ResNet-20 by both loops, three seeds."""
    training, test = cifar(data)
    reached: dict[str, list[float]] = {"plain": [], "own": []}
    for seed in range(SEEDS):
        for way, found in reached.items():
            model = build("resnet20", seed)
            _either(way, model, training, RECIPE, seed=seed)
            found.append(accuracy_plainly(model, test) if way == "plain" else accuracy(model, test, RECIPE.precision))
        print(f"seed {seed}: plain {reached['plain'][-1]:.2f}, autosparse {reached['own'][-1]:.2f}", flush=True)
    for way, found in reached.items():
        print(f"{way:6} {statistics.fmean(found):.2f} ± {statistics.stdev(found):.2f} %")


def irp(data: str) -> None:
    """Seconds of each of ten rounds, by both loops, on a quarter of the images."""
    training, test = (part_of(images, len(images) // 4) for images in cifar(data))
    recipe = replace(RECIPE, epochs=1)
    total = total_of(prunable_weights(build("resnet20", 0)))
    counts = [keep_after(total, 0.319, number + 1) for number in range(IRP_ROUNDS)]
    initial = {name: tensor.clone() for name, tensor in build("resnet20", 0).state_dict().items()}
    seconds: dict[str, list[float]] = {"plain": [], "own": []}
    masks: dict[str, Tensors | None] = {"plain": None, "own": None}
    for number, keep in enumerate(counts):
        begin = time.perf_counter()
        model = rewind(build("resnet20", 0), initial)
        train_plainly(model, training, recipe, masks=masks["plain"])
        accuracy_plainly(model, test)
        scores = {name: weight.detach().abs() for name, weight in prunable_weights(model).items()}
        masks["plain"] = prune_survivors(scores, masks["plain"], keep)
        seconds["plain"].append(time.perf_counter() - begin)
        begin = time.perf_counter()
        found = irp_round(
            lambda: build("resnet20", 0), initial, masks["own"], keep=keep, training=training, validation=test,
            recipe=recipe, generator=torch.Generator().manual_seed(number),
        )  # fmt: skip
        masks["own"] = found.masks
        seconds["own"].append(time.perf_counter() - begin)
        print(f"round {number + 1:2}: {seconds['plain'][-1]:6.1f} s, {seconds['own'][-1]:6.1f} s", flush=True)
    ratio = sum(seconds["plain"]) / sum(seconds["own"])
    print(f"in all   {sum(seconds['plain']):6.1f} s, {sum(seconds['own']):6.1f} s: {ratio:.2f} times as fast")
    slope = numpy.polyfit(range(IRP_ROUNDS), seconds["own"], 1)[0] / statistics.fmean(seconds["own"])
    print(f"a round takes {100 * slope:+.1f} % more than the one before (least squares)")


def random_masks(model: torch.nn.Module) -> Tensors:
    """One weight in fifty."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(weight.shape, generator=generator) < 0.02 for name, weight in prunable_weights(model).items()
    }


def noise(images: int) -> Images:
    """Random pixels."""
    return made_up_images(images, SHAPE, 10, torch.device("cpu"))


def cifar(data: str) -> tuple[Images, Images]:
    """10,000 images to train with, and the test set."""
    source = open_source("parquet", {"path": data, "images_per_class": 1000, "validation": 5000})
    splits = source.load()
    mean, spread = torch.tensor([0.491, 0.482, 0.447]), torch.tensor([0.247, 0.244, 0.262])
    train_images, test_images = (
        Images(
            torch.as_tensor(split.read(numpy.arange(len(split.labels)))), torch.as_tensor(split.labels), mean, spread
        )
        for split in (splits.train, splits.test)
    )
    return train_images, test_images


def part_of(images: Images, count: int) -> Images:
    """The first of a set."""
    assert isinstance(images.pixels, torch.Tensor)
    return replace(images, pixels=images.pixels[:count], labels=images.labels[:count])


def profile() -> None:
    """The operations that take most of a step, of ResNet-20, in either loop."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    for way in ("plain", "own"):
        images, model = noise(BATCH * 8), build("resnet20", 0)
        with torch.profiler.profile(activities=activities) as found:
            _either(way, model, images, replace(RECIPE, epochs=1))
        print(way)
        print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=40))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["peak", way, name]:
            print(peak(way, name))
        case [command, *words]:
            {"memory": memory, "accuracy": accuracies, "irp": irp, "profile": profile}[command](*words)
