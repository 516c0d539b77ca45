"""How small and fast emitted models are, ResNet-18 and VGG-16 for CIFAR-10.

`python benchmarks/emission.py`: a compact file of random weights under masks in % of the dense one, and over what
information theory allows: 4 bytes for each value that is left and the entropy of which places they have, were every
mask of that many as likely.

`python benchmarks/emission.py DATA [NETWORK METHOD]`: every format of networks that were pruned and trained a little on
two classes of CIFAR-10 in Parquet files, verified on 2,000 test images in a process that never saw them: what
`autosparse run` reports, and ONNX of the same weights without removing channels. `python
benchmarks/emission.py mlp` times a multilayer perceptron.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import autosparse
from autosparse.exporters import BATCHES, Model, exporters, open_model
from autosparse.models import build_model
from autosparse.store import dump_tensors

METHODS, SPARSITIES = ("erk", "magnitude"), (0.9, 0.95, 0.98, 0.99)


NETWORKS, VERIFIED = ("resnet18", "vgg16"), (0.98, 0.99)
PRUNED = {"snip": ["method=snip"], "learned": ["method=learned", "scorer.pretrained=cifar-v1"]}
"""Method -> what it sets in the spec."""
FORMATS = "[safetensors, compact, shrunk, pt2, sparse, onnx, {name: onnx, shrink: false}]"


def sizes() -> None:
    """A line for every method and sparsity."""
    network = build_model("resnet18", {}, (3, 32, 32), 10)
    print("method     sparsity   of the dense file   over the limit   with a bit for every place")
    for method in METHODS:
        for sparsity in SPARSITIES:
            masks = autosparse.prune(network, None, sparsity, method=method)
            state = {name: t * masks[name] if name in masks else t for name, t in network.state_dict().items()}
            files = exporters["compact"].function(Model(state, dict(masks)))
            taken, dense = sum(map(len, files.values())), len(dump_tensors(state))
            share = masks.kept / masks.total
            entropy = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
            limit, bitmap = 4 * masks.kept + masks.total * entropy / 8, 4 * masks.kept + masks.total / 8
            print(f"{method:10} {sparsity:8} {taken / dense:19.1%} {taken / limit:16.2f} {bitmap / limit:28.2f}")


def verified(data: str, *only: str) -> None:
    """The verification table of every network and method: bytes and latencies over the dense network's."""
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    for network, method in [only] if only else [(n, m) for n in NETWORKS for m in PRUNED]:
        values = [
            *(f"model={network}", "dataset.classes=[0, 1]", "dataset.images_per_class=1000", "training.epochs=2"),
            *(f"dataset.path={Path(data).resolve()}", f"target.threads={threads}", "target.workers=1"),
            *(f"budget=[{', '.join(map(str, VERIFIED))}]", "seeds=0", "compare=[]", "controls=[]", f"emit={FORMATS}"),
            *PRUNED[method],
        ]
        with tempfile.TemporaryDirectory() as folder:
            spec = Path(__file__).parent.parent / "specs" / "vgg_cifar_parquet.yaml"
            command = [sys.executable, "-m", "autosparse", "run", str(spec), "--json", "--quiet"]
            command += ["--out", str(Path(folder) / "run"), *(part for value in values for part in ("--set", value))]
            report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"{network}, {method}, {threads} thread{'s' * (threads != '1')}")
        print(
            "sparsity  format              bytes  smaller   1 image: ms  faster  32 images: ms  faster   off by   test"
        )
        for found in report["emitted"]:
            print(_row(found), flush=True)


def _row(found: dict[str, Any]) -> str:
    (one, dense_one), (many, dense_many) = (found["batch_latencies_ms"][str(count)] for count in BATCHES)
    smaller = found["dense_bytes"] / found["bytes"]
    return (
        f"{found['sparsity']:8}  {found['format']:14} {found['bytes']:10,} {smaller:7.1f}× {one:13.2f} "
        f"{dense_one / one:6.2f}× {many:14.1f} {dense_many / many:6.2f}× {found['max_abs_error']:8.1g} "
        f"{found['test_accuracy']:6.2f}"
    )


def perceptron() -> None:
    """Three layers of as many units at 99 %: each format over the dense network, medians of 30 runs in turns."""
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
        gains = []
        for count in BATCHES:
            images, times = torch.randn(count, *shape), [[], []]
            with torch.no_grad():
                for _ in range(31):
                    for place, one in enumerate((opened, network)):
                        begin = time.perf_counter()
                        one(images)
                        times[place].append(time.perf_counter() - begin)
            own, dense = (1000 * statistics.median(found[1:]) for found in times)
            gains.append(f"{count} image{'s' * (count > 1)} {dense:.3g} ms to {own:.3g}, {dense / own:.1f}×")
        print(f"{width} units, {format:8}", "; ".join(gains), flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["mlp"]:
        perceptron()
    elif sys.argv[1:]:
        verified(*sys.argv[1:])
    else:
        sizes()
