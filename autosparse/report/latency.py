"""Checks of the method's networks within latency budgets."""

from __future__ import annotations

from collections.abc import Iterator

from autosparse.report.finished import Finished
from autosparse.report.warnings import emissions
from autosparse.steps.emit import EmitResult
from autosparse.steps.latency import LatencyCheck
from autosparse.steps.mask_result import ChannelMaskResult, read_masks


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
