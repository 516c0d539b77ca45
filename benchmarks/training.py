"""Training against the loop that everybody writes first: `python benchmarks/training.py steps [NETWORK]...`.

That loop is `plain`, below: per-sample transforms of torchvision in a DataLoader, NCHW, float32, masks multiplied in
Python after every step. It has two processes that read or none, whichever is faster. Both loops take the same network
from the same weights through the same number of steps of 128 images, each in a process of its own that has all cores;
the two take turns, and memory is the process's peak, without its readers. `python benchmarks/training.py accuracy DATA`
trains ResNet-20 by both at three seeds, on 10,000 images of CIFAR-10 in Parquet files for five epochs.
`python benchmarks/training.py irp DATA` times ten rounds of IRP by both, of one epoch each.
`python benchmarks/training.py profile` says where the time of a step goes.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy
import torch
import torchvision
from PIL import Image

from autosparse.backends import this_machine
from autosparse.core.images import Images
from autosparse.core.irp import irp_round, keep_after, rewind
from autosparse.core.selection import keep_top
from autosparse.core.training import Recipe, accuracy, learning_rate, train, training_steps_of
from autosparse.core.weights import Tensors, prunable_weights, total_of
from autosparse.datasets import open_source
from autosparse.models import resnet

BATCH, WARM_UP, PAIRS, SEEDS, IRP_ROUNDS = 128, 3, 5, 3, 10
STEPS = {"resnet20": 24, "resnet18": 5}
RECIPE = Recipe(epochs=5, batch=BATCH, lr=0.1, schedule="one_cycle", precision="bfloat16")
Observe = Callable[[int], None]


class Pictures(torch.utils.data.Dataset[Any]):
    """Images as torchvision's own sets give them: each a PIL image, transformed when it is asked for."""

    def __init__(self, images: Images, *, augmented: bool) -> None:
        moves = [torchvision.transforms.RandomCrop(32, padding=4), torchvision.transforms.RandomHorizontalFlip()]
        values = [
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize(images.mean.tolist(), images.spread.tolist()),
        ]
        assert isinstance(images.pixels, torch.Tensor)
        self.pixels, self.labels = images.pixels.numpy(), images.labels.tolist()
        self.transform = torchvision.transforms.Compose([*moves, *values] if augmented else values)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[number])), self.labels[number]


def plain(
    model: torch.nn.Module,
    images: Images,
    recipe: Recipe,
    *,
    readers: int,
    masks: Mapping[str, torch.Tensor] | None = None,
    observe: Observe = lambda step: None,
) -> None:
    """The baseline: what a careful person writes."""
    workers = {"num_workers": readers, "persistent_workers": readers > 0}
    loader = torch.utils.data.DataLoader(Pictures(images, augmented=True), recipe.batch, shuffle=True, **workers)
    optimizer = torch.optim.SGD(
        model.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=recipe.nesterov
    )
    steps = training_steps_of(recipe, len(images))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(recipe, min(1.0, step / steps)))
    multiply(model, masks)
    model.train()
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    for step, (inputs, labels) in enumerate(itertools.islice(batches, steps)):
        observe(step)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        schedule.step()
        multiply(model, masks)


def multiply(model: torch.nn.Module, masks: Mapping[str, torch.Tensor] | None) -> None:
    """Masks in Python, a tensor at a time."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if masks is not None and name in masks:
                parameter.mul_(masks[name])


def plain_accuracy(model: torch.nn.Module, images: Images) -> float:
    """In percent, as `plain` would take it."""
    model.eval()
    loader = torch.utils.data.DataLoader(Pictures(images, augmented=False), 1000)
    with torch.no_grad():
        correct = sum(int((model(inputs).argmax(1) == labels).sum()) for inputs, labels in loader)
    return 100 * correct / len(images)


def build(name: str, seed: int) -> torch.nn.Module:
    """One of STEPS, its weights drawn anew."""
    torch.manual_seed(seed)
    shape = (3, 32, 32)
    return resnet.resnet20(shape, 10, width=16) if name == "resnet20" else resnet.resnet18(shape, 10, width=64)


def loop(way: str, name: str, readers: int) -> dict[str, float]:
    """Images a second of one loop on random pixels, after some steps that do not count, and the peak in MiB."""
    images = noise(BATCH * STEPS[name])
    model = build(name, 0)
    masks = random_masks(model) if os.environ.get("MASKED") else None
    begun = 0.0

    def observe(step: int) -> None:
        nonlocal begun
        if step == WARM_UP:
            begun = time.perf_counter()

    recipe = Recipe(**{**vars(RECIPE), "epochs": 1})
    if way == "plain":
        longer = noise(BATCH * (WARM_UP + STEPS[name]))
        plain(model, longer, recipe, readers=readers, masks=masks, observe=observe)
        seconds = time.perf_counter() - begun
    else:
        # A training has no place to look at the clock within an epoch: what does not count is one before.
        train(model, noise(BATCH * WARM_UP), recipe, torch.Generator().manual_seed(0), masks=masks)
        begun = time.perf_counter()
        train(model, images, recipe, torch.Generator().manual_seed(0), masks=masks)
        seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {"rate": BATCH * STEPS[name] / seconds, "peak": peak}


def steps(*names: str) -> None:
    """Images a second of both loops, paired."""
    told = f"{'images/s':12} {'plain':>22} {'autosparse':>22} {'ratio':>18} {'peak, MiB':>18}"
    print(told)
    for name in names or STEPS:
        readers = max((0, 2), key=lambda count: _apart("loop", "plain", name, count)["rate"])
        pairs = [(_apart("loop", "plain", name, readers), _apart("loop", "own", name, 0)) for _ in range(PAIRS)]
        rates = [_spread([pair[place]["rate"] for pair in pairs], "8,.0f") for place in (0, 1)]
        ratio = _spread([own["rate"] / baseline["rate"] for baseline, own in pairs], "5.2f")
        peaks = [statistics.median(pair[place]["peak"] for pair in pairs) for place in (0, 1)]
        memory = f"{peaks[0]:,.0f} {peaks[1]:,.0f} ({peaks[1] / peaks[0]:.2f})"
        print(f"{name:12} {rates[0]:>22} {rates[1]:>22} {ratio:>18} {memory:>18}", flush=True)
    print(f"median (min to max) of {PAIRS} pairs, {this_machine().cores} cores")


def accuracies(data: str) -> None:
    """Test accuracy of ResNet-20 by both loops, three seeds."""
    training, test = cifar(data)
    reached: dict[str, list[float]] = {"plain": [], "own": []}
    for seed in range(SEEDS):
        model = build("resnet20", seed)
        torch.manual_seed(seed)
        plain(model, training, RECIPE, readers=2)
        reached["plain"].append(plain_accuracy(model, test))
        model = build("resnet20", seed)
        train(model, training, RECIPE, torch.Generator().manual_seed(seed))
        reached["own"].append(accuracy(model, test, RECIPE.precision))
        print(f"seed {seed}: plain {reached['plain'][-1]:.2f}, autosparse {reached['own'][-1]:.2f}", flush=True)
    for way, found in reached.items():
        print(f"{way:6} {statistics.fmean(found):.2f} ± {statistics.stdev(found):.2f} %")


def irp(data: str) -> None:
    """Seconds of each of ten rounds, by both loops."""
    training, test = cifar(data)
    recipe = Recipe(**{**vars(RECIPE), "epochs": 1})
    total = total_of(prunable_weights(build("resnet20", 0)))
    counts = [keep_after(total, 0.319, number + 1) for number in range(IRP_ROUNDS)]
    initial = {name: tensor.clone() for name, tensor in build("resnet20", 0).state_dict().items()}
    seconds: dict[str, list[float]] = {"plain": [], "own": []}
    masks: dict[str, Tensors | None] = {"plain": None, "own": None}
    for number, keep in enumerate(counts):
        begin = time.perf_counter()
        model = rewind(build("resnet20", 0), initial)
        plain(model, training, recipe, readers=2, masks=masks["plain"])
        plain_accuracy(model, test)
        masks["plain"] = global_top(model, keep)
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


def global_top(model: torch.nn.Module, keep: int) -> Tensors:
    """Masks of the largest weights of all layers."""
    weights = {name: weight.detach().abs() for name, weight in prunable_weights(model).items()}
    flat = keep_top(torch.cat([weight.flatten() for weight in weights.values()]), keep)
    parts = flat.split([weight.numel() for weight in weights.values()])
    return {name: part.view(weights[name].shape) for name, part in zip(weights, parts, strict=True)}


def random_masks(model: torch.nn.Module) -> Tensors:
    """One weight in fifty."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(weight.shape, generator=generator) < 0.02 for name, weight in prunable_weights(model).items()
    }


def noise(images: int) -> Images:
    """Random pixels."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 32, 32, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (images,), generator=generator)
    return Images(pixels, labels, torch.full((3,), 0.5), torch.full((3,), 0.25))


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


def profile() -> None:
    """The operations that take most of a step, of ResNet-20, in either loop."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    for way in ("plain", "own"):
        images, model = noise(BATCH * 8), build("resnet20", 0)
        with torch.profiler.profile(activities=activities) as found:
            if way == "plain":
                plain(model, images, Recipe(**{**vars(RECIPE), "epochs": 1}), readers=0)
            else:
                train(model, images, Recipe(**{**vars(RECIPE), "epochs": 1}), torch.Generator().manual_seed(0))
        print(way)
        print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=40))


def _apart(*words: Any) -> Any:
    # In a process of its own: its peak of memory is its own, and nothing is warm.
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, __file__, *map(str, words)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def _spread(values: list[float], form: str) -> str:
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})".replace("( ", "(")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["loop", way, name, readers]:
            print(json.dumps(loop(way, name, int(readers))))
        case [command, *words]:
            {"steps": steps, "accuracy": accuracies, "irp": irp, "profile": profile}[command](*words)
