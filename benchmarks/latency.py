"""Latency in onnxruntime of networks without some of their channels: predicted by a table, measured, and the speed-up.

`python benchmarks/latency.py [NETWORK BATCH THREADS]...`: magnitude pruning at initialization with one threshold for
all channels, to 30 % and 10 % of the multiply-adds, with any numbers of channels, the default multiples, and multiples
of 16. All networks of a table are timed in interleaved rounds of one process, dense against pruned in onnxruntime.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from records import append

from autosparse.core.allocation import allocations, macs
from autosparse.core.evidence import Evidence
from autosparse.core.graph.slicing import Slicing, sliced
from autosparse.core.units import units
from autosparse.core.units.cost import in_macs
from autosparse.core.weights import describe_layers, prunable_weights
from autosparse.exporters.onnx_profile import Timed
from autosparse.models import build_model
from autosparse.steps.latency import table as tables

SIZES = {"resnet20": 32, "torchvision:resnet18": 224, "torchvision:vgg16": 224}
SHARES, MULTIPLES = (0.3, 0.1), (1, "auto", 16)
SECONDS = 15.0


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
    opened, about = [Timed(content, images, threads)], []
    for share, multiple, slicing in slicings(model, images[:1]):
        smaller = sliced(model, slicing)
        opened.append(tables.opened(content, slicing, smaller, images, threads)[1])
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


def slicings(model: torch.nn.Module, example: torch.Tensor) -> Iterator[tuple[float, int | str, Slicing]]:
    """Yield the share of multiply-adds, the multiple and the channels kept, by magnitude with one threshold for all."""
    layers = describe_layers(model, example)
    evidence = Evidence.dense(model, layers, lambda count: [], torch.Generator().manual_seed(0), lambda: example)
    channels = units["channel"].function(evidence)
    scores = channels.gather({name: weight.detach().abs() for name, weight in evidence.weights.items()})
    for share in SHARES:
        for multiple in MULTIPLES:
            unit = replace(channels, multiple=multiple)
            allocate = unit.limited(allocations["global"].function, in_macs(layers))
            counts = allocate(scores, unit.layers, int(share * macs(layers)))
            flags = {name: torch.zeros_like(values, dtype=torch.bool) for name, values in scores.items()}
            for name, values in scores.items():
                flags[name][values.flatten().argsort(descending=True)[: counts[name]]] = True
            yield share, multiple, unit.slicing(flags)


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
