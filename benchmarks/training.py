"""Training against a standard PyTorch loop (DataLoader, NCHW, float32), beyond `autosparse bench`.

`python benchmarks/training.py memory [NETWORK]...`: peak memory of a training process under masks, with either loop.
`python benchmarks/training.py accuracy DATA`: ResNet-20 with both loops at three seeds, on 10,000 images of CIFAR-10 in
Parquet files for five epochs.
`python benchmarks/training.py irp DATA`: seconds of ten rounds of IRP with both loops, one epoch of 2,500 images each.
`python benchmarks/training.py pruned [NETWORK]...`: images a second under masks of ERK's quotas, of the standard loop,
dense kernels and sparse kernels, interleaved.
`python benchmarks/training.py compiled [NETWORK]...`: dense kernels and torch.compile, interleaved, and compile time.
`python benchmarks/training.py profile`: the operations of a step by their share of the time.
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
from records import append

from autosparse.backends import this_machine
from autosparse.backends.machine import keep_memory
from autosparse.core.allocation import erk
from autosparse.core.images import Images
from autosparse.core.irp import irp_round, keep_after, prune_survivors
from autosparse.core.selection import keep_top
from autosparse.core.sparse.training import share_left
from autosparse.core.training.loop import accuracy, train
from autosparse.core.training.recipe import Recipe
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
    """Return one of NETWORKS, with weights of a seed."""
    torch.manual_seed(seed)
    return build_model(name, {}, SHAPE, 10)


def peak(way: str, name: str) -> float:
    """Return the peak memory of this process in MiB, after eight steps of one loop on random pixels."""
    images, model = noise(BATCH * 8), build(name, 0)
    masks = random_masks(model)
    _either(way, model, images, replace(RECIPE, epochs=1), masks)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def memory(*names: str) -> None:
    """Print the peaks of both loops, each in a separate process; reader processes do not count."""
    for name in names or NETWORKS:
        peaks = []
        for way in ("standard", "autosparse"):
            command = [sys.executable, __file__, "peak", way, name]
            peaks.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        standard, own = peaks
        print(f"{name:10} standard {standard:,.0f} MiB, autosparse {own:,.0f} MiB: {own / standard:.2f}", flush=True)
        row = {"measure": "peak memory", "network": name, "peak_mib": round(own), "standard_peak_mib": round(standard)}
        append("training", [row], torch.get_num_threads())


def pruned(*names: str) -> None:
    """Print images a second at three sparsities: medians of five interleaved rounds, and of their ratios."""
    keep_memory()
    print("images a second; sparse kernels over the standard loop and over dense kernels: medians of five rounds")
    for name in names or (*NETWORKS, "vgg"):
        images = noise(BATCH * (4 if name == "resnet18" else 8))
        for sparsity in (0.95, 0.98, 0.99):
            masks = erk_masks(build(name, 0), sparsity)
            readers = min((0, 2), key=lambda number: _seconds("standard", name, images, masks, number))
            rates: dict[str, list[float]] = {"standard": [], "dense": [], "sparse": []}
            for round_ in range(6):  # the first one warms up
                for way, measured in rates.items():
                    rate = len(images) / _seconds(way, name, images, masks, readers)
                    measured += [rate] if round_ else []
            medians = {way: statistics.median(measured) for way, measured in rates.items()}
            ratios = [
                statistics.median(a / b for a, b in zip(rates["sparse"], rates[way], strict=True))
                for way in ("standard", "dense")
            ]
            left = 100 * share_left(build(name, 0), masks, torch.zeros(1, *SHAPE))
            brief = ", ".join(f"{way} {median:,.0f}" for way, median in medians.items())
            print(f"{name:9} {sparsity} ({left:.1f} % of the multiply-adds): {brief}; ", end="")
            print(f"{ratios[0]:.2f} and {ratios[1]:.2f} times as fast", flush=True)
            append("training", [{
                "measure": "sparse kernels", "network": name, "sparsity": sparsity, "macs_share": round(left / 100, 4),
                "threads": torch.get_num_threads(), "rounds": 5,
                **{f"{way}_images_per_second": round(median, 1) for way, median in medians.items()},
                "over_standard": round(ratios[0], 3), "over_dense": round(ratios[1], 3),
            }], torch.get_num_threads())  # fmt: skip


def compiled(*names: str) -> None:
    """Print images a second of dense and compiled kernels, and compile times: medians of five interleaved rounds."""
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
            dense, own, again, ratio = (statistics.median(column) for column in zip(*rounds, strict=True))
            threshold = round(again / (1 / dense - 1 / own)) if own > dense else None
            pays = f"pays from {threshold:,} images on" if threshold else "never pays"
            print(f"{name} {precision}: dense {dense:,.0f}, compiled {own:,.0f}, {ratio:.2f} times as fast; ", end="")
            print(f"compiling takes {first:.0f} s, {again:.1f} s from the disk cache: {pays}", flush=True)
            append("training", [{
                "measure": "compiled", "network": name, "precision": precision, "rounds": 5,
                "dense_images_per_second": round(dense, 1), "compiled_images_per_second": round(own, 1),
                "speedup": round(ratio, 3), "compile_seconds": round(first, 1),
                "cached_compile_seconds": round(again, 1), "pays_from_images": threshold,
            }], torch.get_num_threads())  # fmt: skip


def _rate(name: str, images: Images, recipe: Recipe) -> tuple[float, float]:
    # Images a second after the first epoch, and the extra seconds of the first epoch.
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
    if way == "standard":
        train_plainly(model, images, recipe, masks=masks, readers=readers)
    else:
        own = replace(recipe, kernels=way)  # type: ignore[arg-type]
        train(model, images, own, torch.Generator().manual_seed(0), masks=masks)
    return time.perf_counter() - begin


def erk_masks(model: torch.nn.Module, sparsity: float) -> Tensors:
    """Return random masks of ERK's quotas."""
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
    if way == "standard":
        train_plainly(model, images, recipe, masks=masks)
    else:
        train(model, images, recipe, torch.Generator().manual_seed(seed), masks=masks)


def accuracies(data: str) -> None:
    """Print the test accuracy of ResNet-20 with both loops, three seeds."""
    training, test = cifar(data)
    loops: dict[str, list[float]] = {"standard": [], "autosparse": []}
    for seed in range(SEEDS):
        for way, reached in loops.items():
            model = build("resnet20", seed)
            _either(way, model, training, RECIPE, seed=seed)
            own = way == "autosparse"
            reached.append(accuracy(model, test, RECIPE.precision) if own else accuracy_plainly(model, test))
            append("training", [{
                "measure": "accuracy", "network": "resnet20", "images": len(training), "epochs": RECIPE.epochs,
                "loop": f"autosparse, {PRECISION}" if own else "standard loop", "seed": seed,
                "test_accuracy": round(reached[-1], 2),
            }], torch.get_num_threads())  # fmt: skip
        print(f"seed {seed}: {', '.join(f'{way} {reached[-1]:.2f}' for way, reached in loops.items())}", flush=True)
    for way, reached in loops.items():
        print(f"{way:10} {statistics.fmean(reached):.2f} ± {statistics.stdev(reached):.2f} %")


def irp(data: str) -> None:
    """Time ten rounds on a quarter of the images: the standard loop, dense kernels, sparse kernels."""
    keep_memory()
    training, test = (part_of(images, len(images) // 4) for images in cifar(data))
    recipe = replace(RECIPE, epochs=1)
    total = total_of(prunable_weights(build("resnet20", 0)))
    counts = [keep_after(total, 0.319, number + 1) for number in range(IRP_ROUNDS)]
    initial = {name: tensor.clone() for name, tensor in build("resnet20", 0).state_dict().items()}
    seconds: dict[str, list[float]] = {"standard": [], "dense": [], "sparse": []}
    masks: dict[str, Tensors | None] = dict.fromkeys(seconds)
    for number, keep in enumerate(counts):
        for way, spent in seconds.items():
            begin = time.perf_counter()
            if way == "standard":
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
            spent.append(time.perf_counter() - begin)
        brief = ", ".join(f"{way} {spent[-1]:.1f} s" for way, spent in seconds.items())
        print(f"round {number + 1:2}: {brief}", flush=True)
    whole = {way: sum(spent) for way, spent in seconds.items()}
    print(f"total: {', '.join(f'{way} {total:.1f} s' for way, total in whole.items())}")
    for way in ("dense", "sparse"):
        slope = numpy.polyfit(range(IRP_ROUNDS), seconds[way], 1)[0] / statistics.fmean(seconds[way])
        speedup = whole["standard"] / whole[way]
        print(f"{way}: {speedup:.2f} times as fast as the standard loop, ", end="")
        print(f"the time of a round changes by {100 * slope:+.1f} % a round")
        append("training", [{
            "measure": "IRP", "network": "resnet20", "rounds": IRP_ROUNDS, "kernels": way,
            "standard_seconds": round(whole["standard"], 1), "seconds": round(whole[way], 1),
            "speedup": round(speedup, 3), "change_per_round": round(float(slope), 4),
        }], torch.get_num_threads())  # fmt: skip


def random_masks(model: torch.nn.Module) -> Tensors:
    """Return masks that keep a random fiftieth of the weights."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(weight.shape, generator=generator) < 0.02 for name, weight in prunable_weights(model).items()
    }


def noise(images: int) -> Images:
    """Return images of random pixels."""
    return made_up_images(images, SHAPE, 10, torch.device("cpu"))


def cifar(data: str) -> tuple[Images, Images]:
    """Return 10,000 training images and the test set."""
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
    """Return the first images of a set."""
    assert isinstance(images.pixels, torch.Tensor)
    return replace(images, pixels=images.pixels[:count], labels=images.labels[:count])


def profile() -> None:
    """Print the most expensive operations of a step of ResNet-20, in either loop."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    for way in ("standard", "autosparse"):
        images, model = noise(BATCH * 8), build("resnet20", 0)
        with torch.profiler.profile(activities=activities) as recorded:
            _either(way, model, images, replace(RECIPE, epochs=1))
        print(way)
        print(recorded.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=40))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["peak", way, name]:
            print(peak(way, name))
        case [command, *words]:
            commands = {"memory": memory, "accuracy": accuracies, "irp": irp, "pruned": pruned, "compiled": compiled}
            {**commands, "profile": profile}[command](*words)
