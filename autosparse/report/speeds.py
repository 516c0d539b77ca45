"""Table of exported models: bytes, speed-up in one runtime, the runtime's gain, errors; sentences; latency budgets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from autosparse.exporters import EAGER, Speed
from autosparse.report.finished import Finished
from autosparse.report.schema import Emitted
from autosparse.report.warnings import emissions
from autosparse.steps.emit import EmitResult
from autosparse.steps.latency import LatencyCheck
from autosparse.steps.mask_result import ChannelMaskResult, read_masks
from autosparse.text import listed, size

_FASTER = 1.1  # speed-up: smaller ones are measurement noise
SMALLER, GAIN, ERROR = "smaller", "runtime gain", "max abs error"
"""titles of the ratio of sizes, of the runtime's gain and of the error"""
AGAIN = "`autosparse run SPEC --force 'emit/*'`"
"""the command that measures the speed-ups of a run again"""


def verified(emitted: Sequence[Emitted]) -> tuple[list[str], list[list[str]]]:
    """Return the titles and rows of a table of emitted models; unstable speed-ups are blank.

    The gain of a runtime is left out where PyTorch runs all of them.
    """
    batches = _batches(emitted)
    gains = any(model.runtime != EAGER.name for model in emitted)
    rows = [
        [
            model.format,
            f"{model.sparsity:g}",
            size(model.bytes),
            f"{model.dense_bytes / max(1, model.bytes):.3g}×",
            *(_speedup(model.speeds.get(count)) for count in batches),
            *([_gain(model, batches)] if gains else []),
            f"{model.max_abs_error:.2g}",
            f"{model.test_accuracy:.2f}",
        ]
        for model in emitted
    ]
    ratios = [*(f"batch {count}" for count in batches), *([GAIN] if gains else [])]
    return ["format", "sparsity", "size", SMALLER, *ratios, ERROR, "test"], rows


def sentences(emitted: Sequence[Emitted], again: str) -> Iterator[str]:
    """Yield the conditions of the table's measurements; `again` is the command that measures blank cells again."""
    if not emitted:
        return
    batches = _batches(emitted)
    speeds = [speed for model in emitted for speed in model.speeds.values()]
    rounds = sorted({speed.rounds for speed in speeds})
    threads = sorted({model.threads for model in emitted})
    pairs = f"{rounds[0]} to {rounds[-1]}" if rounds[1:] else str(rounds[0])
    run_by = f"{' or '.join(map(str, threads))} thread{'s' * (threads != [1])}"
    runtimes = {model.runtime: model.format.partition("-")[0] for model in emitted}
    others = {name: format for name, format in runtimes.items() if name != EAGER.name}
    yield (
        f"{', '.join(f'batch {count}' for count in batches)}: speed-up, median of {pairs} interleaved pairs, {run_by}, "
        f"against the dense network in the same runtime: {_named(runtimes)}"
    )
    if others:
        yield f"runtime gain: the dense network in that runtime against {EAGER.name}, batch {' / '.join(batches)}"
    latencies = ", ".join(_dense(emitted, batches))
    largest = size(max(model.dense_bytes for model in emitted))
    yield f"dense network: {largest}{f'; in {EAGER.name} {latencies}' if latencies else ''}"
    if slow := {model.format: model.without_gain for model in emitted if _is_no_faster(model)}:
        yield f"no faster: {', '.join(f'{format} ({why})' if why else format for format, why in slow.items())}"
    if alone := [_label(model) for model in emitted if all(one.speedup is None for one in model.speeds.values())]:
        yield f"no speed-up, because the runtime does not open the dense network: {listed(alone, 3)}"
    if unstable := {_label(model): reason for model in emitted if (reason := _reason(model))}:
        yield f"blank, because not stable: {listed([f'{name} ({why})' for name, why in unstable.items()], 3)}"
        yield f"measure the blank ones again on an idle machine: {again}"


def images_at_once(count: str) -> str:
    """Return a batch size in words."""
    return f"{count} image{'s' * (count != '1')}"


def _batches(emitted: Sequence[Emitted]) -> list[str]:
    return list(dict.fromkeys(count for model in emitted for count in model.speeds))


def _speedup(speed: Speed | None) -> str:
    return f"{speed.speedup.median:.2f}×" if speed and speed.stable and speed.speedup else ""


def _gain(model: Emitted, batches: Sequence[str]) -> str:
    if model.runtime == EAGER.name:
        return "–"
    speeds = [model.speeds.get(count) for count in batches]
    cells = [
        f"{speed.runtime_gain.median:.2f}×" if speed and speed.stable and speed.runtime_gain else "" for speed in speeds
    ]
    return " / ".join(cell or "–" for cell in cells) if any(cells) else ""


def _named(runtimes: Mapping[str, str]) -> str:
    if set(runtimes) == {EAGER.name}:
        return EAGER.name
    return ", ".join(name if name == EAGER.name else f"{name} for {format}" for name, format in runtimes.items())


def _dense(emitted: Sequence[Emitted], batches: Sequence[str]) -> Iterator[str]:
    for count in batches:
        stable = [m.speeds[count].torch_ms.median for m in emitted if count in m.speeds and m.speeds[count].stable]
        if stable:
            yield f"{median(stable):.3g} ms for {images_at_once(count)}"


def _is_no_faster(model: Emitted) -> bool:
    ratios = [speed.speedup.median for speed in model.speeds.values() if speed.stable and speed.speedup]
    return len(ratios) == len(model.speeds) and all(ratio < _FASTER for ratio in ratios)


def _label(model: Emitted) -> str:
    return f"{model.format} at {model.budget}"


def _reason(model: Emitted) -> str:
    return next((speed.reason for speed in model.speeds.values() if not speed.stable and speed.speedup), "")


def check_latencies(finished: Finished) -> Iterator[LatencyCheck]:
    """Yield the predicted latency of each network of the method, and that of its emitted model in the same runtime."""
    measured = {
        (step.inputs["mask"], emission.runtime): emission.speeds
        for step, _, _, emission in emissions(finished)
        if isinstance(emission, EmitResult)
    }
    for cell in finished.cells:
        mask = read_masks(finished.open(cell.mask)) if cell.role == "method" and cell.mask else None
        if isinstance(mask, ChannelMaskResult) and (latency := mask.latency):
            speeds = measured.get((cell.mask or "", latency.conditions.runtime), {})
            is_share = isinstance(mask.asked["budget"]["latency"], str)
            speed = speeds.get(str(latency.conditions.batch))
            yield LatencyCheck.of(cell.method, cell.budget, cell.seed, latency, speed, is_share=is_share)
