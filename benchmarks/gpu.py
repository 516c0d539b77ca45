"""Measurements for a GPU: `python benchmarks/gpu.py fastest DATA [MODEL] [GOAL]`, `irp DATA`, `n_of_m`.

DATA is the folder of CIFAR-10 in Parquet files. `fastest` searches for the fewest epochs that train a dense network
(ResNet-18 by default) to GOAL (94) % on 5,000 validation images, with dense kernels and with torch.compile. It then
trains three other seeds for that many epochs and prints test accuracies and seconds, which include compiling but not
reading the images. `irp` runs twenty rounds of IRP to 0.99, of 20 epochs each, and prints the minutes. Without a GPU
both take days: `fastest DATA resnet8 50` is a quick check. `n_of_m` prunes the MLPs of vision transformers to 2:4, and
prints their milliseconds in float16 as torch's semi-structured tensors next to dense ones; it needs a GPU of compute
capability 8.0.
"""

from __future__ import annotations

import copy
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
from records import append
from runs import SPECS, settings
from torch.utils.benchmark import Timer

from autosparse import prune
from autosparse.core.images import Images
from autosparse.core.training.loop import accuracy, train
from autosparse.core.training.recipe import Recipe
from autosparse.datasets import open_source
from autosparse.models import build_model

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
WIDTHS = (768, 1024, 4096)
TOKENS = (197, 197 * 32)  # of one image and of 32


def fastest(data: str, model: str = "resnet18", goal: str = "94") -> None:
    """Search for the fewest of EPOCHS that reach the goal on validation images; test them at other seeds."""
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
        tests = []
        for seed in SEEDS:
            network, seconds = trained(model, training, replace(recipe, epochs=epochs), seed)
            tests.append((accuracy(network, test, recipe.precision), seconds))
        mean, spread = (f([reached for reached, _ in tests]) for f in (statistics.fmean, statistics.stdev))
        middle = statistics.median(seconds for _, seconds in tests)
        print(f"{model} {kernels}: {epochs} epochs, {middle:.1f} s, test {mean:.2f} ± {spread:.2f} %", flush=True)
        about = {"measure": "fastest", "network": model, "goal": float(goal), "kernels": kernels, "epochs": epochs}
        append("gpu", (
            {**about, "seed": seed, "test_accuracy": round(reached, 2), "seconds": round(seconds, 1)}
            for seed, (reached, seconds) in zip(SEEDS, tests, strict=True)
        ))  # fmt: skip


def trained(model: str, training: Images, recipe: Recipe, seed: int) -> tuple[torch.nn.Module, float]:
    """Return a trained network and the seconds of its training."""
    torch.manual_seed(seed)
    network = build_model(model, {}, training.input_shape, 10).to(DEVICE)
    begin = time.perf_counter()
    train(network, training, recipe, torch.Generator().manual_seed(seed))
    if DEVICE.type == "cuda":
        torch.cuda.synchronize(DEVICE)
    return network, time.perf_counter() - begin


def images(data: str) -> list[Images]:
    """Return training, validation and test images, on the device."""
    splits = open_source("parquet", {"path": data, "validation": 5000}).load()
    mean, spread = torch.tensor([0.491, 0.482, 0.447]), torch.tensor([0.247, 0.244, 0.262])
    loaded = []
    for split in (splits["train"], splits["validation"], splits["test"]):
        pixels = torch.as_tensor(split.read(numpy.arange(len(split.labels))))
        loaded.append(Images(pixels, torch.as_tensor(split.labels), mean, spread).to(DEVICE))
    return loaded


def irp(data: str) -> None:
    """Time twenty rounds from an empty cache, by the command `autosparse run`."""
    with tempfile.TemporaryDirectory() as folder:
        spec = str(SPECS / "resnet_cifar.yaml")
        command = [sys.executable, "-m", "autosparse", "run", spec, "--only", "irp/*", "--budget", "0.99"]
        values = (
            f"dataset={{name: parquet, path: {Path(data).resolve()}}}",
            f"irp.rounds={ROUNDS}",
            f"irp.per_round={1 - 0.01 ** (1 / ROUNDS):.4f}",
            "irp.epochs=20",
            "irp.training.schedule=one_cycle",
        )
        begin = time.perf_counter()
        environment = {**os.environ, "AUTOSPARSE_CACHE_DIR": folder}
        subprocess.run([*command, *settings(values)], check=True, env=environment)
        minutes = (time.perf_counter() - begin) / 60
        print(f"{ROUNDS} rounds of IRP to 0.99: {minutes:.1f} min on {DEVICE.type}")
        append("gpu", [{"measure": "IRP", "rounds": ROUNDS, "sparsity": 0.99, "minutes": round(minutes, 2)}])


def n_of_m() -> None:
    """Time the linear layers of an MLP under masks of 2:4, as semi-structured tensors and as dense ones."""
    if DEVICE.type != "cuda" or torch.cuda.get_device_capability(DEVICE) < (8, 0):
        sys.exit("2:4 needs an NVIDIA GPU of compute capability 8.0: no other device here skips its zeros")
    for width in WIDTHS:
        network = torch.nn.Sequential(
            torch.nn.Linear(width, 4 * width), torch.nn.GELU(), torch.nn.Linear(4 * width, width)
        )
        network = network.half().to(DEVICE).eval()
        prune(network, method="magnitude", unit="2:4").apply(network)
        network.requires_grad_(requires_grad=False)
        sparse = semi_structured(network)
        for tokens in TOKENS:
            batch = torch.randn(tokens, width, dtype=torch.float16, device=DEVICE)
            with torch.inference_mode():
                error = float((network(batch) - sparse(batch)).abs().max())
                dense_ms, sparse_ms = (
                    1000 * Timer("run(x)", globals={"run": run, "x": batch}).blocked_autorange(min_run_time=1).median
                    for run in (network, sparse)
                )
            print(f"width {width}, {tokens} tokens: dense {dense_ms:.3f} ms, 2:4 {sparse_ms:.3f} ms, error {error:.2g}")
            about = {"measure": "2:4", "width": width, "tokens": tokens, "dense_ms": round(dense_ms, 4)}
            append("gpu", [{**about, "sparse_ms": round(sparse_ms, 4), "max_abs_error": error}])


def semi_structured(network: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of a float16 network whose linear layers are semi-structured; their weights are 2:4."""
    network = copy.deepcopy(network)
    for layer in network.modules():
        if isinstance(layer, torch.nn.Linear):
            weight = torch.sparse.to_sparse_semi_structured(layer.weight.detach())
            layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    return network


if __name__ == "__main__":
    {"fastest": fastest, "irp": irp, "n_of_m": n_of_m}[sys.argv[1]](*sys.argv[2:])
