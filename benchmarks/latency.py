"""Latency in onnxruntime of networks without some of their channels: predicted by a table, measured, and the speed-up.

`python benchmarks/latency.py [NETWORK BATCH THREADS]...`: magnitude pruning at initialization with one threshold for
all channels, to 30 % and 10 % of the multiply-adds, also with numbers of channels that are multiples of 8 and 16. All
networks of a table are timed in interleaved rounds of one process, dense against pruned in the same runtime.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
from records import append

import autosparse
from autosparse.core.weights import prunable_weights
from autosparse.exporters.onnx_profile import Timed
from autosparse.models import build_model
from autosparse.steps.latency import table as tables

SIZES = {"resnet20": 32, "torchvision:resnet18": 224, "torchvision:vgg16": 224}
SHARES, MULTIPLES = (0.3, 0.1), (1, 8, 16)
SECONDS = 20.0


def rows(network: str, batch: int, threads: int) -> Iterator[dict[str, Any]]:
    """Yield a row for every pruned network of one table."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    size = SIZES[network]
    model = build_model(network, {}, (3, size, size), 10 if size < 64 else 1000).eval()
    begin = time.perf_counter()
    table, dense_seconds = tables.measure_table(model, (3, size, size), batch=batch, threads=threads)
    seconds = time.perf_counter() - begin
    images = torch.randn(batch, 3, size, size)
    content = tables.exported(model, images.shape[1:])
    examples = [(images[:1].expand(2, -1, -1, -1), torch.zeros(2).long())]
    opened, about = [Timed(content, images, threads)], []
    for share in SHARES:
        for multiple in MULTIPLES:
            unit = {"name": "channel", "multiple": multiple}
            masks = autosparse.prune(model, examples, method="magnitude", unit=unit, macs=share)
            smaller = masks.shrink(model).eval()
            opened.append(tables.opened(content, masks.slicing, smaller, images, threads)[1])
            shapes = {name: tuple(weight.shape) for name, weight in prunable_weights(smaller).items()}
            about.append({"macs_share": share, "multiple": multiple, "predicted": table.seconds(shapes)})
    tables.TIMED = SECONDS
    dense, *pruned = tables.latencies(opened)
    for row, measured in zip(about, pruned, strict=True):
        predicted = row.pop("predicted")
        yield {
            "network": network,
            "size": size,
            "batch": batch,
            "threads": threads,
            **row,
            "dense_ms": round(1000 * dense, 3),
            "measured_ms": round(1000 * measured, 3),
            "predicted_ms": round(1000 * predicted, 3),
            "predicted_over_measured": round(predicted / measured, 3),
            "speedup": round(dense / measured, 3),
            "predicted_speedup": round(dense_seconds / predicted, 3),
            "table_seconds": round(seconds, 1),
        }


def main(arguments: list[str]) -> None:
    """Measure the networks, batch sizes and threads of the command line, or all."""
    cases = [arguments[at : at + 3] for at in range(0, len(arguments), 3)]
    usual = [(network, batch, threads) for network in SIZES for batch in (1, 32) for threads in (1, 2)]
    for network, batch, threads in cases or usual:
        made = [*rows(str(network), int(batch), int(threads))]
        for row in made:
            print(row)
        append("latency", made, int(threads))


if __name__ == "__main__":
    main(sys.argv[1:])
