"""Latency of a pruned network within a latency budget: predicted for its masks, and measured after emission."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt, Lt

from autosparse.exporters import Speed
from autosparse.steps._base import Positive
from autosparse.steps.latency.step import Conditions

_TOLERANCE = 0.05
"""Share of its limit that a measured latency may exceed: smaller differences are measurement noise"""
_UNMEASURED = "not measured: `emit: [onnx]` measures it"
Seconds = Annotated[float, Gt(0), Lt(1e100)]


@dataclass(frozen=True)
class PredictedLatency:
    """Seconds of the pruned and the dense network by the latency table, and the limit of the budget."""

    predicted: Seconds
    dense: Seconds
    limit: Seconds
    conditions: Conditions


@dataclass(frozen=True)
class LatencyCheck:
    """Latency of a method's network within a latency budget: predicted by the table, and measured after emission."""

    method: str
    budget: str
    seed: int
    batch: Positive
    threads: Positive
    runtime: str
    limit_ms: Seconds
    limit_speedup: Seconds | None
    """None for a limit in seconds"""
    predicted_ms: Seconds
    predicted_speedup: Seconds
    measured_ms: Seconds | None = None
    """None if no emitted model runs in the runtime; of an emitted model, as the next ones"""
    measured_speedup: Seconds | None = None
    met: bool | None = None
    reason: str = ""
    """reason why the measurement is absent or not stable"""

    @classmethod
    def of(
        cls, method: str, budget: str, seed: int, latency: PredictedLatency, speed: Speed | None, *, is_share: bool
    ) -> LatencyCheck:
        """Compare a prediction with an emitted model's speed; `is_share` for a limit relative to the dense network."""
        conditions = latency.conditions
        in_ms = speed.emitted_ms.median if speed else None
        speedup = speed.speedup.median if speed and speed.speedup else None
        reached = speedup and latency.dense / speedup if is_share else in_ms and in_ms / 1000  # seconds
        return cls(
            method=method,
            budget=budget,
            seed=seed,
            batch=conditions.batch,
            threads=conditions.threads,
            runtime=conditions.runtime,
            limit_ms=1000 * latency.limit,
            limit_speedup=latency.dense / latency.limit if is_share else None,
            predicted_ms=1000 * latency.predicted,
            predicted_speedup=latency.dense / latency.predicted,
            measured_ms=in_ms,
            measured_speedup=speedup,
            met=reached <= (1 + _TOLERANCE) * latency.limit if reached and speed and speed.stable else None,
            reason=speed.reason if speed else _UNMEASURED,
        )
