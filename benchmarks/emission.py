"""Size and speed of exported models, ResNet-18 and VGG-16 for CIFAR-10.

`python benchmarks/emission.py`: a compact file of random weights under masks, in percent of the dense file and relative
to the entropy limit: 4 bytes for each kept value and the entropy of a uniformly random mask of that size.

`python benchmarks/emission.py DATA [NETWORK METHOD]`: every format of networks that are pruned and trained for two
epochs on two classes of CIFAR-10 in Parquet files, verified on 2,000 test images in a separate process: the report of
`autosparse run`, and ONNX of the same weights with dead channels left in.

`python benchmarks/emission.py mlp` times multilayer perceptrons.

`python benchmarks/emission.py repeat [5]` measures speed-ups that many times and prints how they vary.

Speed-ups are against the dense network in the same runtime, medians of interleaved pairs; blank if not stable.
"""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from records import append
from runs import SPECS, THREADS, dataset, run

import autosparse
from autosparse.exporters import (
    BATCHES,
    Model,
    Patience,
    Quartiles,
    Speed,
    exporters,
    measure_speed,
    open_model,
    runtime_of,
)
from autosparse.exporters.latency import Function
from autosparse.models import build_model
from autosparse.store import dump_tensors

METHODS, SPARSITIES = ("erk", "magnitude"), (0.9, 0.95, 0.98, 0.99)
NETWORKS, VERIFIED = ("resnet18", "vgg16"), (0.98, 0.99)
PRUNED = {"snip": ["method=snip"], "learned": ["method=learned", "scorer.pretrained=cifar-v1"]}
"""Method -> its settings of the spec."""
REPEATED: tuple[tuple[str, dict[str, Any], tuple[int, ...]], ...] = (
    ("mlp", {"widths": [256, 256]}, (1, 8, 8)),
    ("resnet8", {}, (1, 8, 8)),
    ("resnet20", {}, (3, 32, 32)),
    ("vgg11", {}, (3, 32, 32)),
)
FORMATS = "[safetensors, compact, shrunk, pt2, sparse, onnx, {name: onnx, shrink: false}]"


def sizes() -> None:
    """Print a line for every method and sparsity."""
    rows = []
    network = build_model("resnet18", {}, (3, 32, 32), 10)
    print("method     sparsity   of the dense file   over the limit   bitmap over the limit")
    for method in METHODS:
        for sparsity in SPARSITIES:
            masks = autosparse.prune(network, None, sparsity, method=method)
            state = {name: t * masks[name] if name in masks else t for name, t in network.state_dict().items()}
            files = exporters["compact"].function(Model(state, dict(masks)))
            size, dense = sum(map(len, files.values())), len(dump_tensors(state))
            share = masks.kept / masks.total
            entropy = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
            limit, bitmap = 4 * masks.kept + masks.total * entropy / 8, 4 * masks.kept + masks.total / 8
            print(f"{method:10} {sparsity:8} {size / dense:19.1%} {size / limit:16.2f} {bitmap / limit:23.2f}")
            rows.append({
                "measure": "compact file", "network": "resnet18", "method": method, "sparsity": sparsity,
                "share_of_dense": round(size / dense, 4), "over_entropy_limit": round(size / limit, 3),
                "bitmap_over_entropy_limit": round(bitmap / limit, 3),
            })  # fmt: skip
    append("emission", rows)


def verified(data: str, *only: str) -> None:
    """Print the verification table of every network and method: bytes and latencies relative to the dense network."""
    for network, method in [only] if only else [(n, m) for n in NETWORKS for m in PRUNED]:
        values = [
            *(f"model={network}", "dataset.classes=[0, 1]", "dataset.images_per_class=1000", "training.epochs=2"),
            *(dataset(data), f"target.threads={THREADS}", "target.workers=1"),
            *(f"budget=[{', '.join(map(str, VERIFIED))}]", "seeds=0", "compare=[]", "controls=[]", f"emit={FORMATS}"),
            *PRUNED[method],
        ]
        with tempfile.TemporaryDirectory() as folder:
            report = run(SPECS / "vgg_cifar_parquet.yaml", Path(folder) / "run", values)
        print(f"{network}, {method}, {THREADS} thread{'s' * (THREADS != '1')}")
        print("sparsity  format              bytes  smaller  1 image: ms speed-up     gain  32: ms speed-up     gain")
        rows = [_row(emitted) for emitted in report["emitted"]]
        for row in rows:
            print(
                f"{row['sparsity']:8}  {row['format']:14} {row['bytes']:10,} {row['smaller']:7.1f}× ",
                *(
                    f"{row[f'milliseconds_{count}']:9.2f} {_shown(row[f'speedup_{count}']):>8} "
                    f"{_shown(row[f'runtime_gain_{count}']):>8}"
                    for count in BATCHES
                ),
            )
        append("emission", ({"measure": "exported model", "network": network, "method": method, **r} for r in rows))


def _row(emitted: dict[str, Any]) -> dict[str, Any]:
    names = ("sparsity", "format", "bytes", "max_abs_error", "test_accuracy", "runtime")
    row = {name: emitted[name] for name in names} | {"smaller": round(emitted["dense_bytes"] / emitted["bytes"], 2)}
    for count in BATCHES:
        row |= _columns(count, Speed(**_quartiles(emitted["speeds"][str(count)])))
    return row


def _quartiles(speed: dict[str, Any]) -> dict[str, Any]:
    return {name: Quartiles(**value) if isinstance(value, dict) else value for name, value in speed.items()}


def _columns(count: int, speed: Speed) -> dict[str, Any]:
    # None for a speed-up that is not stable.
    known = speed.speedup if speed.stable else None
    gain = speed.runtime_gain if speed.stable else None
    return {
        f"milliseconds_{count}": round(speed.emitted_ms.median, 4),
        f"dense_milliseconds_{count}": round(speed.dense_ms.median, 4) if speed.dense_ms else None,
        f"speedup_{count}": known and round(known.median, 3),
        f"speedup_spread_{count}": known and round(known.spread, 3),
        f"runtime_gain_{count}": gain and round(gain.median, 3),
    }


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}×"


def perceptron() -> None:
    """Time perceptrons of three equal layers at 99 %: each format against the dense network in the same runtime."""
    for width in (1024, 4096):
        options = {"widths": [width] * 3}
        for format, opened, dense, eager in _opened("mlp", options, (3, 32, 32), 0.99, ("shrunk", "sparse", "onnx")):
            row = {"measure": "perceptron", "units": width, "method": "erk", "sparsity": 0.99, "format": format}
            for count in BATCHES:
                row |= _columns(count, _speed(opened, dense, eager, (3, 32, 32), count))
            gains = "; ".join(f"batch {count} {_shown(row[f'speedup_{count}'])}" for count in BATCHES)
            print(f"{width} units, {format:8}", gains, flush=True)
            append("emission", [row], torch.get_num_threads())


def repeated(times: int) -> None:
    """Measure speed-ups several times, of networks of 0.1 to 100 ms a pass, and print how they vary."""
    print("network   format       batch   dense ms   speed-ups                             highest/lowest  blank")
    rows = []
    for network, options, shape in REPEATED:
        for format, opened, dense, eager in _opened(network, options, shape, 0.95, ("compact", "sparse", "onnx")):
            for count in BATCHES:
                speeds = [_speed(opened, dense, eager, shape, count) for _ in range(times)]
                known = [speed.speedup.median for speed in speeds if speed.stable and speed.speedup]
                ratio = max(known) / min(known) if known else None
                milliseconds = statistics.median(speed.torch_ms.median for speed in speeds)
                blank = times - len(known)
                listed = " ".join(_shown(value) for value in known)
                line = f"{network:9} {format:12} {count:5} {milliseconds:10.3g}   {listed:36}"
                print(f"{line} {_shown(ratio):>15} {blank:6}")
                print(*(f"  {speed.reason}\n" for speed in speeds if speed.reason), sep="", end="", flush=True)
                rows.append({
                    "measure": "repeated speed-up", "network": network, "format": format, "batch": count,
                    "speedups": [round(value, 3) for value in known], "blank": blank,
                })  # fmt: skip
    append("emission", rows, torch.get_num_threads())


def _opened(
    network: str, options: dict[str, Any], shape: tuple[int, ...], sparsity: float, formats: tuple[str, ...]
) -> Iterator[tuple[str, Function, Function, Function]]:
    # Format, emitted model, dense network in its runtime, dense network in PyTorch.
    def build() -> torch.nn.Module:
        return build_model(network, options, shape, 10).eval()

    eager = build()
    masks = autosparse.prune(eager, None, sparsity, method="erk")
    state = dict(eager.state_dict())
    pruned = {name: t * masks[name] if name in masks else t for name, t in state.items()}
    for format in formats:
        opened = open_model(format, exporters[format].function(Model(pruned, dict(masks), build, shape)), build())
        write = runtime_of(format).dense
        dense = open_model(format, write(Model(state, {}, build, shape)), build()) if write else eager
        yield format, opened, dense, eager


def _speed(opened: Function, dense: Function, eager: Function, shape: tuple[int, ...], count: int) -> Speed:
    return measure_speed(opened, dense, eager, torch.randn(count, *shape), patience=Patience())


if __name__ == "__main__":
    if sys.argv[1:] == ["mlp"]:
        perceptron()
    elif sys.argv[1:2] == ["repeat"]:
        repeated(int(sys.argv[2]) if sys.argv[2:] else 5)
    elif sys.argv[1:]:
        verified(*sys.argv[1:])
    else:
        sizes()
