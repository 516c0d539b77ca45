"""Speed of every unit of pruning in every format and runtime: `python benchmarks/faster.py [NETWORK]...`.

A network is pruned at initialization by magnitude, in every unit, and exported in every format. One process times all
models in interleaved rounds, with `OMP_NUM_THREADS` threads, on random images. A speed-up is the median over rounds of
the seconds of the dense float32 network in the same runtime over those of the model. Rows go to `results/faster.jsonl`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from records import append
from runs import THREADS

import autosparse
from autosparse.core.allocation import macs
from autosparse.core.graph.slicing import sliced
from autosparse.core.weights import describe_layers
from autosparse.exporters import Function, Model, bytes_of, exporters, open_model, runtime_of
from autosparse.models import build_model

SHAPES = {"torchvision:resnet18": (3, 224, 224), "timm:vit_tiny_patch16_224": (3, 224, 224), "resnet20": (3, 32, 32)}
QUOTAS = {"criterion": "magnitude", "allocation": "erk"}
CHANNELS: dict[str, Any] = {
    "method": {"criterion": "magnitude", "allocation": "uniform"},
    "unit": {"name": "channel", "multiple": 16},
}
UNITS: dict[str, dict[str, Any] | None] = {
    "dense": None,
    "weights, 95 %": {"sparsity": 0.95, "method": QUOTAS},
    "weights, 99 %": {"sparsity": 0.99, "method": QUOTAS},
    "2:4": {"unit": "2:4", "method": {"criterion": "magnitude"}},
    "channels, 30 % of macs": {**CHANNELS, "macs": 0.3},
    "channels, 10 % of macs": {**CHANNELS, "macs": 0.1},
}
"""Unit and amount -> arguments of `prune`."""
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "shrunk": ("shrunk", {}),
    "sparse": ("sparse", {}),
    "pt2": ("pt2", {}),
    "onnx": ("onnx", {}),
    "onnx, int8": ("onnx", {"quantize": "int8"}),
    "onnx, dynamic int8": ("onnx", {"quantize": "dynamic"}),
}
"""Name in the table -> format and its options."""
BATCHES, ROUNDS, AT_LEAST = (1, 32), 7, 0.1


@dataclass(frozen=True)
class Opened:
    """A model in its runtime, and the first values of its row."""

    run: Function
    row: dict[str, Any]

    @property
    def is_dense(self) -> bool:
        """True for the dense float32 network."""
        return self.row["unit"] == "dense" and "int8" not in self.row["format"]


def models(network: str) -> Iterator[Opened]:
    """Yield every unit in every format; formats that refuse the network are left out with their reason."""
    shape = SHAPES[network]
    torch.manual_seed(0)
    dense = build_model(network, {}, shape, 10).eval()
    example = torch.randn(2, *shape)

    def build() -> torch.nn.Module:
        return build_model(network, {}, shape, 10).eval()

    total = macs(describe_layers(dense, example))
    batches = [(example, torch.tensor([0, 1]))]
    for unit, arguments in UNITS.items():
        state, masks, slicing = dict(dense.state_dict()), {}, None
        if arguments is not None:
            try:
                made = autosparse.prune(dense, batches, **arguments)
            except autosparse.AutosparseError as error:
                print(f"{network}, {unit}: {error}")
                continue
            masks, slicing = dict(made), made.slicing
            state = {name: t * masks[name] if name in masks else t for name, t in state.items()}
        smaller = build() if slicing is None else sliced(build(), slicing)
        left = macs(describe_layers(smaller, example)) / total
        model = Model(state, masks, build, shape, slicing=slicing, calibration=lambda: iter([torch.randn(64, *shape)]))
        for name, (format, options) in FORMATS.items():
            write = runtime_of(format).dense if arguments is None and not options else None
            try:
                files = write(model) if write else exporters[format].function(model, **options)
                opened = open_model(format, files, build())
            except ValueError as error:
                print(f"{network}, {unit}, {name}: {error}")
                continue
            size = bytes_of(format, {file: len(content) for file, content in files.items()})
            row = {"network": network, "unit": unit, "format": name, "macs": round(left, 4)}
            yield Opened(opened, {**row, "runtime": runtime_of(format).name, "bytes": size})


def rows(network: str) -> Iterator[dict[str, Any]]:
    """Yield the row of every model of a network: milliseconds and speed-ups by batch size."""
    opened = [*models(network)]
    measured: list[dict[str, Any]] = [{} for _ in opened]
    for batch in BATCHES:
        with torch.no_grad():
            seconds = timed(opened, torch.randn(batch, *SHAPES[network]))
        runtimes = {one.row["runtime"]: its for one, its in zip(opened, seconds, strict=True) if one.is_dense}
        for one, its, row in zip(opened, seconds, measured, strict=True):
            row[f"milliseconds_{batch}"] = round(1000 * median(its), 3)
            row[f"speedup_{batch}"] = _ratio(runtimes[one.row["runtime"]], its)
            row[f"over_pytorch_{batch}"] = _ratio(runtimes["PyTorch"], its)
    for one, row in zip(opened, measured, strict=True):
        yield {**one.row, **row}


def _ratio(dense: list[float], its: list[float]) -> float:
    return round(median(one / other for one, other in zip(dense, its, strict=True)), 3)


def timed(opened: list[Opened], images: torch.Tensor) -> list[list[float]]:
    """Return the seconds of a batch of every model in every round, interleaved."""
    calls = [_calls(one.run, images) for one in opened]
    rounds = [
        [_seconds(one.run, images, count) for one, count in zip(opened, calls, strict=True)] for _ in range(ROUNDS)
    ]
    return [*map(list, zip(*rounds, strict=True))]


def _calls(run: Function, images: torch.Tensor) -> int:
    run(images)
    return max(1, round(AT_LEAST / _seconds(run, images, 1)))


def _seconds(run: Function, images: torch.Tensor, calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        run(images)
    return (time.perf_counter() - begin) / calls


def main(networks: list[str]) -> None:
    """Measure the networks of the command line, or two."""
    torch.set_num_threads(int(THREADS))
    for network in networks or [*SHAPES][:2]:
        made = [*rows(network)]
        for row in made:
            print(*row.values(), sep="  ", flush=True)
        append("faster", made)


if __name__ == "__main__":
    main(sys.argv[1:])
