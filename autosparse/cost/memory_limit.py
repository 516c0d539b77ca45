"""The limit of memory: where and how a plan runs within it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from autosparse.backends import EVALUATION_BATCH, Placement
from autosparse.cost.fitted import Adjustment, Fitted
from autosparse.cost.price import peak_bytes
from autosparse.errors import FitError
from autosparse.spec import Spec, binary_size


def within_memory(fitted: Fitted) -> tuple[Fitted, dict[str, float]]:
    """Return the plan where it fits, and the peaks of the steps that exceed the memory at their smallest."""
    if not _too_heavy(fitted):
        return fitted, {}
    word = memory_word(fitted)
    for placement in _smaller(fitted.placement):
        smaller = replace(fitted, placement=placement)
        if not _too_heavy(smaller):
            adjustments = []
            if (batch := placement.evaluation_batch) < EVALUATION_BATCH:
                adjustments.append(Adjustment("images evaluated at once", EVALUATION_BATCH, batch, word))
            if placement.stream:
                adjustments.append(Adjustment("data", "in memory", "on disk", word))
            peaks = _peaks(smaller)
            steps = {
                name: replace(estimate, peak_bytes=round(peaks.get(name, estimate.peak_bytes)))
                for name, estimate in fitted.price.steps.items()
            }
            price = replace(fitted.price, steps=steps)
            return replace(smaller, price=price, adjustments=(*fitted.adjustments, *adjustments)), {}
    return fitted, _too_heavy(replace(fitted, placement=placement))


def _too_heavy(fitted: Fitted) -> dict[str, float]:
    return {name: peak for name, peak in _peaks(fitted).items() if peak > fitted.memory}


def memory_word(fitted: Fitted) -> str:
    """Return the limit of memory in words."""
    limit = fitted.plan.spec.target.memory
    return f"target.memory {limit}" if limit != "auto" else f"{binary_size(fitted.memory)} of memory"


def _smaller(placement: Placement) -> list[Placement]:
    batches = [EVALUATION_BATCH]
    while batches[-1] > 1:
        batches.append(-(-batches[-1] // 2))
    return [replace(placement, evaluation_batch=batch, stream=stream) for stream in (False, True) for batch in batches]


def _peaks(fitted: Fitted) -> dict[str, float]:
    # Step to run -> its peak at the place, with what was measured where steps of the kind have run as usual.
    peaks = {name: float(estimate.peak_bytes) for name, estimate in fitted.estimates.items()}
    if (placement := fitted.placement).usual:
        return peaks
    for name in peaks:
        work, rates = fitted.price.works[name], fitted.price.network_rates(name)
        small = peak_bytes(work, rates, evaluated=placement.evaluation_batch, streamed=placement.stream)
        peaks[name] = float(round(peaks[name] - (peak_bytes(work, rates) - small)))
    return peaks


def too_large(fitted: Fitted, heavy: Mapping[str, float], spec: Spec, attempt: Callable[[Spec], Fitted]) -> FitError:
    """Return the error with the sizes that would fit: of memory and, if a smaller one is enough, of the batch."""
    message = f"{highest_peak(heavy)}, above {memory_word(fitted)}"
    size = f"`--set target.memory={mebibytes(heavy)}`"
    if fitted.memory <= fitted.price.base:
        base = binary_size(fitted.price.base)
        return FitError(message, f"torch and what reads images take {base} here; {size} would fit")
    if batch := _batch_that_fits(fitted, heavy, spec, attempt):
        return FitError(message, f"{size} or `--set {batch}` would fit, the latter with other results")
    return FitError(message, f"{size} would fit")


def _batch_that_fits(
    fitted: Fitted, heavy: Mapping[str, float], spec: Spec, attempt: Callable[[Spec], Fitted]
) -> str | None:
    name = max(heavy, key=lambda step: heavy[step])
    work, rates = fitted.price.works[name], fitted.price.network_rates(name)
    if not work.load.batch or not rates.get("train_bytes"):
        return None
    fixed = fitted.price.base + peak_bytes(work, {**rates, "train_bytes": 0.0}, streamed=True)
    batch = int((fitted.memory - fixed) / rates["train_bytes"])
    if not 2 <= batch < work.load.batch:
        return None
    batch = 1 << (batch.bit_length() - 1)
    proxy = fitted.plan.steps[name].purpose == "source" and spec.irp.training is not None
    for size in (batch, batch // 2):
        if size > 1 and not within_memory(attempt(_with_batch(spec, size, proxy=proxy)))[1]:
            return f"{'irp.' if proxy else ''}training.batch={size}"
    return None


def _with_batch(spec: Spec, batch: int, *, proxy: bool) -> Spec:
    section: Any = spec.irp if proxy else spec
    changed = section.model_copy(update={"training": section.training.model_copy(update={"batch": batch})})
    return spec.model_copy(update={"irp": changed}) if proxy else changed


def highest_peak(heavy: Mapping[str, float]) -> str:
    """Return the step with the highest peak, in words."""
    name = max(heavy, key=lambda step: heavy[step])
    return f"step `{name}` takes about {binary_size(heavy[name])} of memory at its peak"


def mebibytes(heavy: Mapping[str, float]) -> str:
    """Return a `target.memory` in which the highest peak fits."""
    return f"{-(-1.05 * max(heavy.values()) // 2**20):.0f}MiB"
