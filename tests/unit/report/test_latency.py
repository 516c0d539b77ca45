"""Latency budgets in words."""

from __future__ import annotations

import pytest

from autosparse.exporters import Quartiles, Speed
from autosparse.report.cells import latency_in_words
from autosparse.steps.latency import Conditions, LatencyCheck, PredictedLatency

LATENCY = PredictedLatency(predicted=0.0048, dense=0.01, limit=0.005, conditions=Conditions(1, 1, "onnxruntime"))


def check(budget: str, speedup: float | None, *, is_share: bool = True, stable: bool = True) -> LatencyCheck:
    """The check of a network that takes 4.8 of 10 ms by prediction."""
    speed = None
    if speedup:
        emitted, dense, ratio = (Quartiles(value, value, value) for value in (10 / speedup, 10, speedup))
        reason = "" if stable else "the machine was busy"
        speed = Speed(emitted, dense, dense, ratio, None, 9, stable=stable, reason=reason)
    return LatencyCheck.of("snip", budget, 0, LATENCY, speed, is_share=is_share)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (check("2x latency", 2.0), "latency budget 2x: predicted 2.08x, measured 2x (batch 1, 1 thread)"),
        (check("2x latency", 1.7), "latency budget 2x: predicted 2.08x, measured 1.7x (batch 1, 1 thread): missed"),
        (
            check("5ms", 2.5, is_share=False),
            "latency budget 5ms: predicted 4.8 ms, measured 4 ms (batch 1, 1 thread)",
        ),
        (
            check("5ms, 1 thread", 1.25, is_share=False),
            "latency budget 5ms: predicted 4.8 ms, measured 8 ms (batch 1, 1 thread): missed",
        ),
        (
            check("2x latency", 1.2, stable=False),
            "latency budget 2x: predicted 2.08x, measured 1.2x (batch 1, 1 thread; the machine was busy)",
        ),
        (
            check("2x latency", None),
            "latency budget 2x: predicted 2.08x, not measured: `emit: [onnx]` measures it (batch 1, 1 thread)",
        ),
    ],
)
def test_a_check_in_words(made: LatencyCheck, expected: str) -> None:
    """A miss of less than 5 % is noise; a busy machine decides nothing."""
    assert expected == latency_in_words(made)


def test_a_miss_by_noise_is_none() -> None:
    """1.95 for 2; 1.85 is one."""
    assert check("2x latency", 1.95).met
    assert not check("2x latency", 1.85).met
    assert check("2x latency", 1.85, stable=False).met is None
