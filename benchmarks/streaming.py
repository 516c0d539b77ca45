"""How fast batches come from disk: `python benchmarks/streaming.py`. Ratios to the same batches from memory.

`python benchmarks/streaming.py memory`: the peak of a process that trains ResNet-8 for an epoch's beginning on 100,000
images of 64 x 64 pixels, from memory and from disk.

A set of random pixels is written as a `data` step writes it, in files of 256 MiB, and read by the loop that
training uses: shuffled, cropped, flipped, normalized. One thread.
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
    for name, found in rates.items():
        ratio = statistics.median(rate / base for rate, base in zip(found, rates["memory"], strict=True))
        print(f"{name:18} {statistics.median(found):9,.0f} images/s of {SIDE} x {SIDE} x 3   {ratio:.2f} of memory")


def peaks() -> None:
    """GiB that a process held at most, for either way, each in one of its own."""
    for way in ("memory", "disk"):
        command = [sys.executable, __file__, "peak", way]
        found = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(
            f"{way:8} {found:.2f} GiB for {MANY:,} images of {SIDE} x {SIDE}, {MANY * SIDE * SIDE * 3 / 2**30:.2f} GiB"
        )


def peak(way: str) -> None:
    """Train for 40 steps of 128 images in this process."""
    from autosparse.core.training.loop import Recipe, train
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
