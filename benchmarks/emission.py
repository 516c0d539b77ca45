"""Size and speed of exported models, ResNet-18 and VGG-16 for CIFAR-10.

`python benchmarks/emission.py`: a compact file of random weights under masks, in percent of the dense file and relative
to the entropy limit: 4 bytes for each kept value and the entropy of a uniformly random mask of that size.

`python benchmarks/emission.py DATA [NETWORK METHOD]`: every format of networks that are pruned and trained for two
epochs on two classes of CIFAR-10 in Parquet files, verified on 2,000 test images in a separate process: the report of
`autosparse run`, and ONNX of the same weights with dead channels left in.

`python benchmarks/emission.py mlp` times multilayer perceptrons.
"""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from records import append
from runs import SPECS, THREADS, dataset, run

import autosparse
from autosparse.exporters import BATCHES, Model, exporters, open_model
from autosparse.models import build_model
from autosparse.store import dump_tensors

METHODS, SPARSITIES = ("erk", "magnitude"), (0.9, 0.95, 0.98, 0.99)
NETWORKS, VERIFIED = ("resnet18", "vgg16"), (0.98, 0.99)
PRUNED = {"snip": ["method=snip"], "learned": ["method=learned", "scorer.pretrained=cifar-v1"]}
"""Method -> its settings of the spec."""
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
        print("sparsity  format              bytes  smaller  1 image: ms  faster  32 images: ms  faster   error   test")
        rows = [_row(emitted) for emitted in report["emitted"]]
        for row in rows:
            print(
                "{sparsity:8}  {format:14} {bytes:10,} {smaller:7.1f}× {milliseconds_1:12.2f} {speedup_1:6.2f}× "
                "{milliseconds_32:14.1f} {speedup_32:6.2f}× {max_abs_error:8.1g} {test_accuracy:6.2f}".format(**row)
            )
        append("emission", ({"measure": "exported model", "network": network, "method": method, **r} for r in rows))


def _row(emitted: dict[str, Any]) -> dict[str, Any]:
    names = ("sparsity", "format", "bytes", "max_abs_error", "test_accuracy")
    row = {name: emitted[name] for name in names} | {"smaller": round(emitted["dense_bytes"] / emitted["bytes"], 2)}
    for count in BATCHES:
        own, dense = emitted["batch_latencies_ms"][str(count)]
        row |= {f"milliseconds_{count}": round(own, 3), f"speedup_{count}": round(dense / own, 3)}
    return row


def perceptron() -> None:
    """Time perceptrons of three equal layers at 99 %: each format against the dense network, medians of 30 runs."""
    for width in (1024, 4096):
        _perceptron(width)


def _perceptron(width: int) -> None:
    shape, options = (3, 32, 32), {"widths": [width] * 3}
    network = build_model("mlp", options, shape, 10).eval()
    masks = autosparse.prune(network, None, 0.99, method="erk")
    state = {name: t * masks[name] if name in masks else t for name, t in network.state_dict().items()}
    network.load_state_dict(state)
    model = Model(state, dict(masks), lambda: build_model("mlp", options, shape, 10), shape)
    for format in ("shrunk", "sparse", "onnx"):
        opened = open_model(format, exporters[format].function(model), build_model("mlp", options, shape, 10))
        gains, row = [], {"measure": "perceptron", "units": width, "method": "erk", "sparsity": 0.99, "format": format}
        for count in BATCHES:
            images, times = torch.randn(count, *shape), [[], []]
            with torch.no_grad():
                for _ in range(31):
                    for timed, one in zip(times, (opened, network), strict=True):
                        begin = time.perf_counter()
                        one(images)
                        timed.append(time.perf_counter() - begin)
            own, dense = (1000 * statistics.median(timed[1:]) for timed in times)
            gains.append(f"{count} image{'s' * (count > 1)} {dense:.3g} ms to {own:.3g}, {dense / own:.1f}×")
            row |= {f"dense_milliseconds_{count}": round(dense, 4), f"milliseconds_{count}": round(own, 4)}
            row |= {f"speedup_{count}": round(dense / own, 2)}
        print(f"{width} units, {format:8}", "; ".join(gains), flush=True)
        append("emission", [row], torch.get_num_threads())


if __name__ == "__main__":
    if sys.argv[1:] == ["mlp"]:
        perceptron()
    elif sys.argv[1:]:
        verified(*sys.argv[1:])
    else:
        sizes()
