"""latency: seconds per layer and width of a network in onnxruntime on this machine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autosparse.core.torch_compat.random_state import seeded
from autosparse.core.units.latency import Amount, LatencyTable
from autosparse.errors import StepError
from autosparse.exporters import exporters
from autosparse.models import build_model
from autosparse.steps._base import Context, Positive, StepResult, operations
from autosparse.steps.init import find_model
from autosparse.steps.latency.table import COPIES, PROFILED, TIMED, measure_table
from autosparse.steps.workload import LINE, Facts, Workload


@dataclass(frozen=True)
class Conditions:
    """The runtime that a latency is measured in, its threads, and the images of a call."""

    batch: Positive
    threads: Positive
    runtime: str


@dataclass(frozen=True)
class LatencyResult(StepResult):
    """Latency table of a network, and the latency of the dense one in seconds."""

    conditions: Conditions
    dense: Amount
    table: LatencyTable

    def check(self) -> None:
        """Require curves of as many seconds as amounts of work, for layers with known positions."""
        self.require({*self.table.layers} <= {*self.table.positions}, "result.json: `layers` have no `positions`")
        for ways in (*self.table.layers.values(), self.table.rest):
            fits = ways and all(curve.work and len(curve.work) == len(curve.seconds) for curve in ways.values())
            self.require(bool(fits), "result.json: a curve has not as many seconds as amounts of work")


def latency_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of exporting the network, and of timing and profiling its copies."""
    builds = exporters["onnx"].facts["builds"]
    return Workload(
        {"batch": options["batch"], "threads": options["threads"]},
        {
            "step": 1,
            "build": 4 + builds + 2 * COPIES,
            "forward": 6 * COPIES * options["batch"],
            "seconds": TIMED + COPIES * PROFILED,
            "bytes": 2 * COPIES * facts.state_bytes,
        },
        ({"bytes": (3 + COPIES) * facts.state_bytes, "forward": options["batch"]},),
        LINE + 24 * 2 * COPIES * len(facts.network.layers),
        counted=facts.evaluated(6 * COPIES * options["batch"]),
    )


@operations.register(
    result=LatencyResult,
    cost=latency_cost,
    spec_paths={
        "model": "model", "shape": "dataset", "classes": "dataset", "batch": "budget", "threads": "budget",
        "runtime": "budget", "runtime_version": "", "processor": "",
    },
)  # fmt: skip
def latency(
    context: Context,
    *,
    model: Mapping[str, Any],
    shape: Sequence[int],
    classes: int,
    batch: int,
    threads: int,
    runtime: str,
    runtime_version: str,
    processor: str,
) -> None:
    """Measure the dense network and narrower copies of it in `runtime`.

    `runtime_version` and `processor` are options for the key alone.
    """
    channels, height, width = shape
    with seeded(0):
        network = build_model(*find_model(context, model), (channels, height, width), classes).cpu().eval()
    try:
        table, dense = measure_table(network, (channels, height, width), batch=batch, threads=threads)
    except ValueError as error:
        raise StepError(f"the network has no latency table: {error}") from error
    if not math.isfinite(dense) or dense <= 0:
        raise StepError("the clock of this machine measures no time")
    LatencyResult(Conditions(batch, threads, runtime), dense, table).write(context.output)
