"""Training against the loop that everybody writes first: what `autosparse bench` does not tell.

`python benchmarks/training.py memory [NETWORK]...`: the peak of a process that trains, by either loop, under masks.
`python benchmarks/training.py accuracy DATA`: ResNet-20 by both at three seeds, on 10,000 images of CIFAR-10 in Parquet
files for five epochs. `python benchmarks/training.py irp DATA`: the seconds of ten rounds of IRP by both, of one epoch
of a quarter of them. `python benchmarks/training.py pruned [NETWORK]...`: images a second under masks of ERK's quotas,
by the plain loop and by both kinds of kernels, in turns. `python benchmarks/training.py compiled [NETWORK]...`: by
dense kernels and by those that torch.compile makes, in turns, and the seconds of compiling.
`python benchmarks/training.py profile`: where the time of a step goes.
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
from autosparse.backends.machine import keep_memory
from autosparse.core.allocation import erk
from autosparse.core.images import Images
from autosparse.core.irp import irp_round, keep_after, prune_survivors
from autosparse.core.selection import keep_top
from autosparse.core.sparse.training import share_left
from autosparse.core.training.loop import Recipe, accuracy, train
from autosparse.core.weights import Tensors, describe_layers, keep_count, load_state, prunable_weights, total_of
from autosparse.datasets import open_source
from autosparse.measure.probe import made_up_images
from autosparse.measure.reference_loop import accuracy_plainly, train_plainly
from autosparse.models import build_model

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


def pruned(*names: str) -> None:
    """Images a second at three sparsities, five rounds of each way in turns: medians, and of the ratios too."""
    keep_memory()
    print("images a second; sparse kernels against the plain loop and against dense ones: medians of five rounds")
    for name in names or (*NETWORKS, "vgg"):
        images = noise(BATCH * (4 if name == "resnet18" else 8))
        for sparsity in (0.95, 0.98, 0.99):
            masks = erk_masks(build(name, 0), sparsity)
            readers = min((0, 2), key=lambda number: _seconds("plain", name, images, masks, number))
            rates: dict[str, list[float]] = {"plain": [], "dense": [], "sparse": []}
            for round_ in range(6):  # the first one warms up
                for way, found in rates.items():
                    rate = len(images) / _seconds(way, name, images, masks, readers)
                    found += [rate] if round_ else []
            told = ", ".join(f"{way} {statistics.median(found):,.0f}" for way, found in rates.items())
            ratios = [
                statistics.median(a / b for a, b in zip(rates["sparse"], rates[way], strict=True))
                for way in ("plain", "dense")
            ]
            left = 100 * share_left(build(name, 0), masks, torch.zeros(1, *SHAPE))
            print(f"{name:9} {sparsity} ({left:.1f} % of the multiply-adds): {told}; ", end="")
            print(f"{ratios[0]:.2f} and {ratios[1]:.2f} times as fast", flush=True)


def compiled(*names: str) -> None:
    """Images a second by both kinds of kernels, five rounds in turns: medians, and of the ratio and the seconds too."""
    keep_memory()
    for name in names or NETWORKS:
        images = noise(BATCH * (2 if name == "resnet18" else 6))
        for precision in dict.fromkeys((PRECISION, "float32")):
            recipe = replace(RECIPE, epochs=3, precision=precision)
            first = _rate(name, images, replace(recipe, kernels="compiled"))[1]
            rounds = []
            for _ in range(5):
                dense, _ = _rate(name, images, recipe)
                own, again = _rate(name, images, replace(recipe, kernels="compiled"))
                rounds.append((dense, own, again, own / dense))
            dense, own, again, ratio = (statistics.median(found) for found in zip(*rounds, strict=True))
            pays = f"pays from {again / (1 / dense - 1 / own):,.0f} images on" if own > dense else "never pays"
            print(f"{name} {precision}: dense {dense:,.0f}, compiled {own:,.0f}, {ratio:.2f} times as fast; ", end="")
            print(f"compiling takes {first:.0f} s, again {again:.1f}: {pays}", flush=True)


def _rate(name: str, images: Images, recipe: Recipe) -> tuple[float, float]:
    # Images a second after the first epoch, and the seconds by which that took longer than the others.
    ends: list[float] = []
    begin = time.perf_counter()
    train(
        build(name, 0),
        images,
        recipe,
        torch.Generator().manual_seed(0),
        observe=lambda *_: ends.append(time.perf_counter()),
    )
    epoch = (ends[-1] - ends[0]) / (len(ends) - 1)
    return len(images) / epoch, max(0.0, ends[0] - begin - epoch)


def _seconds(way: str, name: str, images: Images, masks: Tensors, readers: int) -> float:
    model, recipe = build(name, 0), replace(RECIPE, epochs=1)
    begin = time.perf_counter()
    if way == "plain":
        train_plainly(model, images, recipe, masks=masks, readers=readers)
    else:
        own = replace(recipe, kernels=way)  # type: ignore[arg-type]
        train(model, images, own, torch.Generator().manual_seed(0), masks=masks)
    return time.perf_counter() - begin


def erk_masks(model: torch.nn.Module, sparsity: float) -> Tensors:
    """Random masks of ERK's quotas."""
    generator = torch.Generator().manual_seed(0)
    weights = prunable_weights(model)
    scores = {name: torch.rand(weight.shape, generator=generator) for name, weight in weights.items()}
    layers = describe_layers(model, torch.zeros(1, *SHAPE))
    counts = erk(scores, layers, keep_count(total_of(scores), sparsity))
    return {name: keep_top(score.flatten(), counts[name]).view(score.shape) for name, score in scores.items()}


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
    """Seconds of each of ten rounds on a quarter of the images: the plain loop, dense kernels, sparse ones too."""
    keep_memory()
    training, test = (part_of(images, len(images) // 4) for images in cifar(data))
    recipe = replace(RECIPE, epochs=1)
    total = total_of(prunable_weights(build("resnet20", 0)))
    counts = [keep_after(total, 0.319, number + 1) for number in range(IRP_ROUNDS)]
    initial = {name: tensor.clone() for name, tensor in build("resnet20", 0).state_dict().items()}
    seconds: dict[str, list[float]] = {"plain": [], "dense": [], "sparse": []}
    masks: dict[str, Tensors | None] = dict.fromkeys(seconds)
    for number, keep in enumerate(counts):
        for way, found in seconds.items():
            begin = time.perf_counter()
            if way == "plain":
                model = load_state(build("resnet20", 0), initial)
                train_plainly(model, training, recipe, masks=masks[way])
                accuracy_plainly(model, test)
                scores = {name: weight.detach().abs() for name, weight in prunable_weights(model).items()}
                masks[way] = prune_survivors(scores, masks[way], keep)
            else:
                masks[way] = irp_round(
                    lambda: build("resnet20", 0), initial, masks[way], keep=keep, training=training, validation=test,
                    recipe=replace(recipe, kernels=way), generator=torch.Generator().manual_seed(number),  # type: ignore[arg-type]
                ).masks  # fmt: skip
            found.append(time.perf_counter() - begin)
        print(
            f"round {number + 1:2}: {', '.join(f'{way} {found[-1]:.1f} s' for way, found in seconds.items())}",
            flush=True,
        )
    whole = {way: sum(found) for way, found in seconds.items()}
    print(f"in all: {', '.join(f'{way} {found:.1f} s' for way, found in whole.items())}")
    for way in ("dense", "sparse"):
        slope = numpy.polyfit(range(IRP_ROUNDS), seconds[way], 1)[0] / statistics.fmean(seconds[way])
        print(f"{way}: {whole['plain'] / whole[way]:.2f} times as fast as the plain loop, ", end="")
        print(f"a round {100 * slope:+.1f} % more than the one before")


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
        for split in (splits["train"], splits["test"])
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
            commands = {"memory": memory, "accuracy": accuracies, "irp": irp, "pruned": pruned, "compiled": compiled}
            {**commands, "profile": profile}[command](*words)
