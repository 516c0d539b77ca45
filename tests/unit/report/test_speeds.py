"""Table of exported models: speed-ups of stable measurements alone, and sentences about the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from autosparse.exporters import Quartiles, Speed
from autosparse.report.schema import Emitted
from autosparse.report.speeds import sentences, verified


def ratio(value: float) -> Quartiles:
    """A ratio that varies little."""
    return Quartiles(0.99 * value, value, 1.01 * value)


def speed(speedup: float, gain: float | None = None) -> Speed:
    """A stable measurement; the dense network takes 12 ms in PyTorch."""
    dense = 12 / (gain or 1)
    runtime_gain = ratio(gain) if gain else None
    return Speed(ratio(dense / speedup), ratio(dense), ratio(12), ratio(speedup), runtime_gain, 25, stable=True)


def busy(speed: Speed) -> Speed:
    """The same under load."""
    return replace(speed, stable=False, reason="the machine was busy")


def emitted(format: str, one: Speed, many: Speed, runtime: str = "PyTorch", **changed: Any) -> Emitted:
    """An exported model."""
    given: dict[str, Any] = {
        "format": format, "method": "snip", "sparsity": 0.9, "seed": 0, "path": str(Path("models")), "bytes": 1000,
        "latency_ms": one.emitted_ms.median, "dense_latency_ms": one.dense_ms and one.dense_ms.median, "budget": "0.9",
        "max_abs_error": 0.0, "max_rel_error": 0.0, "test_accuracy": 50.0, "dense_bytes": 3000, "runtime": runtime,
        "threads": 1, "speeds": {"1": one, "32": many}, "without_gain": "zeros are multiplied",
    }  # fmt: skip
    return Emitted(**given | changed)


SLOW = emitted("safetensors", speed(1.02), speed(0.98))
FAST = emitted("onnx", speed(1.5, 3), speed(1.25, 2), "onnxruntime")


def test_speed_ups_are_of_one_runtime() -> None:
    """The runtime's gain over PyTorch is another column; without a difference it is 1.02×."""
    titles, rows = verified([SLOW, FAST])

    assert ["batch 1", "batch 32", "runtime gain"] == titles[4:7]
    assert [["1.02×", "0.98×", "–"], ["1.50×", "1.25×", "3.00× / 2.00×"]] == [row[4:7] for row in rows]


def test_pytorch_alone_has_no_column_of_a_gain() -> None:
    """Every row would have a dash."""
    titles, rows = verified([SLOW])

    assert "runtime gain" not in titles
    assert [len(titles)] == [len(row) for row in rows]


def test_cells_of_a_busy_machine_are_blank() -> None:
    """Of the batch that was measured under load."""
    one = emitted("onnx", busy(speed(9, 3)), speed(1.25, 2), "onnxruntime")
    both = emitted("onnx", busy(speed(9, 3)), busy(speed(9, 2)), "onnxruntime")
    _, rows = verified([one, both])

    assert [["", "1.25×", "– / 2.00×"], ["", "", ""]] == [row[4:7] for row in rows]


def test_sentences_name_the_conditions() -> None:
    """Rounds, threads, runtimes, the dense network's times, and formats that are no faster with the reason."""
    text = "\n".join(sentences([SLOW, FAST], "`again`"))

    assert "batch 1, batch 32: speed-up, median of 25 interleaved pairs, 1 thread" in text
    assert "in the same runtime: PyTorch, onnxruntime for onnx" in text
    assert "runtime gain: the dense network in that runtime against PyTorch, batch 1 / 32" in text
    assert "dense network: 3 kB; in PyTorch 12 ms for 1 image, 12 ms for 32 images" in text
    assert "no faster: safetensors (zeros are multiplied)" in text
    assert "blank" not in text


def test_sentences_name_the_blank_cells() -> None:
    """With the reason and the remedy; a format without a stable measurement is not called slow."""
    unstable = emitted("compact", busy(speed(0.5)), busy(speed(0.5)))
    text = "\n".join(sentences([unstable], "`again`"))

    assert "blank, because not stable: compact at 0.9 (the machine was busy)" in text
    assert "measure the blank ones again on an idle machine: `again`" in text
    assert "no faster" not in text
    assert "runtime gain" not in text
    assert " ms " not in text


def test_no_model_is_no_sentence() -> None:
    """The section is left out."""
    assert [] == [*sentences([], "`again`")]
