"""What only a GPU tells: `python benchmarks/gpu.py fastest DATA [MODEL] [GOAL]`, `python benchmarks/gpu.py irp DATA`.

DATA is the folder of CIFAR-10 in Parquet files. `fastest` looks for the fewest epochs after which a dense network
reaches GOAL (94) % on 5,000 validation images, ResNet-18 unless MODEL says another, by dense kernels and by those of
torch.compile; then it trains three other seeds for so long and prints test accuracies and seconds, which include
compiling but not reading the images. `irp` runs twenty rounds of IRP to 0.99, of 20 epochs each, and prints the
minutes. On a machine without a GPU both work, and take days: `fastest DATA resnet8 50` tries them.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy
import torch

from autosparse.core.images import Images
from autosparse.core.training.loop import Recipe, accuracy, train
from autosparse.datasets import open_source
from autosparse.models import build_model

SPEC = Path(__file__).parent.parent / "specs" / "resnet_cifar.yaml"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
EPOCHS = (4, 6, 8, 10, 12, 14, 16, 20, 24, 30)
SEEDS = (1, 2, 3)
RECIPE = Recipe(
    batch=512,
    lr=0.4,
    schedule="one_cycle",
    label_smoothing=0.1,
    cutout=8,
    precision="bfloat16" if DEVICE.type == "cuda" and torch.cuda.is_bf16_supported() else "float32",
)
ROUNDS = 20


def fastest(data: str, model: str = "resnet18", goal: str = "94") -> None:
    """The fewest of EPOCHS that reach the goal on validation images, and what they come to on the test set."""
    training, validation, test = images(data)
    for kernels in ("dense", "compiled"):
        recipe = replace(RECIPE, kernels=kernels)  # type: ignore[arg-type]
        for epochs in EPOCHS:
            network, seconds = trained(model, training, replace(recipe, epochs=epochs), seed=0)
            reached = accuracy(network, validation, recipe.precision)
            print(f"{model} {kernels}: {epochs} epochs, {seconds:.1f} s, validation {reached:.2f} %", flush=True)
            if reached >= float(goal):
                break
        else:
            print(f"{model} {kernels}: {goal} % was not reached", flush=True)
            continue
        found = []
        for seed in SEEDS:
            network, seconds = trained(model, training, replace(recipe, epochs=epochs), seed)
            found.append((accuracy(network, test, recipe.precision), seconds))
        mean, spread = (f([reached for reached, _ in found]) for f in (statistics.fmean, statistics.stdev))
        middle = statistics.median(seconds for _, seconds in found)
        print(f"{model} {kernels}: {epochs} epochs, {middle:.1f} s, test {mean:.2f} ± {spread:.2f} %", flush=True)


def trained(model: str, training: Images, recipe: Recipe, seed: int) -> tuple[torch.nn.Module, float]:
    """A network, trained, and the seconds that it took."""
    torch.manual_seed(seed)
    network = build_model(model, {}, training.input_shape, 10).to(DEVICE)
    begin = time.perf_counter()
    train(network, training, recipe, torch.Generator().manual_seed(seed))
    if DEVICE.type == "cuda":
        torch.cuda.synchronize(DEVICE)
    return network, time.perf_counter() - begin


def images(data: str) -> list[Images]:
    """Training, validation and test images, on the device."""
    splits = open_source("parquet", {"path": data, "validation": 5000}).load()
    mean, spread = torch.tensor([0.491, 0.482, 0.447]), torch.tensor([0.247, 0.244, 0.262])
    found = []
    for split in (splits["train"], splits["validation"], splits["test"]):
        pixels = torch.as_tensor(split.read(numpy.arange(len(split.labels))))
        found.append(Images(pixels, torch.as_tensor(split.labels), mean, spread).to(DEVICE))
    return found


def irp(data: str) -> None:
    """Twenty rounds from an empty cache, by the command that users have."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "autosparse", "run", str(SPEC), "--only", "irp/*", "--budget", "0.99"]
        values = (
            f"dataset={{name: parquet, path: {Path(data).resolve()}}}",
            f"irp.rounds={ROUNDS}",
            f"irp.per_round={1 - 0.01 ** (1 / ROUNDS):.4f}",
            "irp.epochs=20",
            "irp.training.schedule=one_cycle",
        )
        for value in values:
            command += ["--set", value]
        begin = time.perf_counter()
        subprocess.run(command, check=True, env={**os.environ, "AUTOSPARSE_CACHE_DIR": folder})
        print(f"{ROUNDS} rounds of IRP to 0.99: {(time.perf_counter() - begin) / 60:.1f} min on {DEVICE.type}")


if __name__ == "__main__":
    {"fastest": fastest, "irp": irp}[sys.argv[1]](*sys.argv[2:])
