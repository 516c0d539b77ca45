"""Throughput of batches from disk, relative to memory: `python benchmarks/streaming.py`.

`python benchmarks/streaming.py memory`: peak memory of a process that trains ResNet-8 for 40 steps on 100,000 images of
64 x 64 pixels, from memory and from disk.

Random pixels are written as a `data` step writes them, in files of 256 MiB, and read by the loop of a training:
shuffled, cropped, flipped, normalized. One thread.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from records import append

from autosparse.core.images import Images, epoch
from autosparse.store import ShardedRows, dump_tensors

IMAGES, SIDE, SHARD, REPEATS = 60_000, 64, 2**28, 5
MANY = 100_000


def main() -> None:
    """Print images a second from memory, from disk by this process, and by two reader processes."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (IMAGES, SIDE, SIDE, 3), dtype=torch.uint8, generator=generator)
    resident = Images(pixels, torch.zeros(IMAGES, dtype=torch.int64), torch.full((3,), 0.5), torch.full((3,), 0.25))
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, part in enumerate(pixels.split(SHARD // (SIDE * SIDE * 3))):
            files.append(Path(folder) / f"train-{number:05d}.safetensors")
            files[-1].write_bytes(dump_tensors({"pixels": part}))
        rows = ShardedRows(files, "pixels")
        ways = {
            "memory": resident,
            "disk": replace(resident, pixels=rows),
            "disk, two readers": replace(resident, pixels=rows, readers=2),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(REPEATS):  # paired: every way once in each round
            for name, images in ways.items():
                begin = time.perf_counter()
                for _ in epoch(images, batch=128, crop=4, flip=True, generator=generator):
                    pass
                rates[name].append(IMAGES / (time.perf_counter() - begin))
    rows = []
    for name, measured in rates.items():
        ratio = statistics.median(rate / base for rate, base in zip(measured, rates["memory"], strict=True))
        median = statistics.median(measured)
        print(f"{name:18} {median:9,.0f} images/s of {SIDE} x {SIDE} x 3   {ratio:.2f} of memory")
        rows.append({
            "measure": "throughput", "source": name, "images": IMAGES, "side": SIDE, "rounds": REPEATS,
            "images_per_second": round(median), "over_memory": round(ratio, 3),
        })  # fmt: skip
    append("streaming", rows, threads=1)


def peaks() -> None:
    """Print the peak memory of a process for either source."""
    rows = []
    for way in ("memory", "disk"):
        command = [sys.executable, __file__, "peak", way]
        gib = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        size = MANY * SIDE * SIDE * 3 / 2**30
        print(f"{way:8} {gib:.2f} GiB for {MANY:,} images of {SIDE} x {SIDE}, {size:.2f} GiB")
        rows.append({
            "measure": "peak memory", "source": way, "network": "resnet8", "images": MANY, "side": SIDE,
            "data_gib": round(size, 2), "peak_gib": round(gib, 2),
        })  # fmt: skip
    append("streaming", rows)


def peak(way: str) -> None:
    """Train for 40 steps of 128 images in this process."""
    from autosparse.core.training.loop import train
    from autosparse.core.training.recipe import Recipe
    from autosparse.models import build_model

    part = MANY // 10
    labels = torch.zeros(MANY, dtype=torch.int64)
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number in range(10):
            pixels = torch.randint(0, 256, (part, SIDE, SIDE, 3), dtype=torch.uint8)
            files.append(Path(folder) / f"train-{number:05d}.safetensors")
            files[-1].write_bytes(dump_tensors({"pixels": pixels}))
            del pixels
        rows = ShardedRows(files, "pixels")
        held = torch.cat([rows[torch.arange(n * part, (n + 1) * part)] for n in range(10)]) if way == "memory" else rows
        images = Images(held, labels, torch.full((3,), 0.5), torch.full((3,), 0.25))
        network = build_model("resnet8", {}, (3, SIDE, SIDE), 10)
        train(network, images, Recipe(epochs=1, precision="float32"), torch.Generator(), end=40)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["memory"]:
            peaks()
        case ["peak", way]:
            peak(way)
        case _:
            main()
