"""A latency budget from the table to the report: measured here, in seconds."""

from __future__ import annotations

import pytest

from tests.conftest import Workspace, call

pytest.importorskip("onnxruntime")

SPEC = """\
version: 1
model: lenet
dataset: digits
budget: {latency: 2x}
target: {device: cpu, threads: 1}
method: {preset: magnitude, unit: channel}
compare: []
controls: [random]
training: {epochs: 1, precision: float32}
emit: [onnx]
"""


@pytest.mark.slow
def test_a_run_within_a_latency(
    here: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks within the predicted latency; the report compares it with that of the exported model."""
    monkeypatch.setattr("autosparse.steps.latency.table.TIMED", 1.0)
    monkeypatch.setattr("autosparse.steps.latency.table.PROFILED", 0.1)
    (here.folder / "fast.yaml").write_text(SPEC)
    made = call(capsys, "run fast.yaml --json")

    assert 0 == made.code, made.err
    (check,) = made.json["latencies"]
    assert {"budget": "2x latency", "batch": 1, "threads": 1, "runtime": "onnxruntime"}.items() <= check.items()
    assert check["predicted_ms"] <= check["limit_ms"]
    assert 2 <= check["predicted_speedup"] < 4
    assert check["measured_ms"] > 0
    assert "latency budget 2x: predicted 2" in call(capsys, f"report {made.json['run']}").out
    again = call(capsys, "run fast.yaml --json --budget latency=50%")
    assert 0 == again.json["steps"]["run"], again.err
