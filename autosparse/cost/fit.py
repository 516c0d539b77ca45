"""The fit of a plan to its target: data left on disk, smaller evaluation batches, lower values of open settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from autosparse.backends import (
    EVALUATION_BATCH,
    Machine,
    Placement,
    free_processes,
    memory_of,
    most_processes,
    this_machine,
)
from autosparse.cost.fitted import Adjustment, Fitted, processes_of, with_workers
from autosparse.cost.price import NO_PRICE, price
from autosparse.cost.rates import BUSY, THIS_MACHINE, Calibration, peak_bytes
from autosparse.cost.threads import with_threads
from autosparse.cost.time_limit import limit_trials, minutes, sufficient_time, trials_too_long, within_time
from autosparse.errors import FitError
from autosparse.measure.probe import USUAL_BASE, Measurement
from autosparse.planning.budgets import check_budget
from autosparse.planning.compile import compile_plan
from autosparse.planning.status import statuses
from autosparse.spec import Spec, binary_size, resolve, with_settings
from autosparse.store import Index, Store


def fit_plan(
    spec: Spec,
    machine: Machine,
    name: str,
    store: Store,
    index: Index,
    say: Callable[[str], None] = lambda text: None,
    *,
    refit: bool = False,
    timed: bool = True,
    calibration: Calibration = THIS_MACHINE,
) -> Fitted:
    """Compile, price and fit a spec. Raises UsageError for an impossible budget, FitError without memory for torch.

    Choices under time limits, which apply only if `timed`, are kept until `refit` recalibrates the cost model.
    """
    _check_torch_fits()
    asked, rates = spec, dict[str, Measurement]()

    def attempt(spec: Spec) -> Fitted:
        plan = compile_plan(resolve(spec, machine), name)
        check_budget(plan)
        target = plan.spec.target
        assert isinstance(target.threads, int)
        current, cost = statuses(plan, store, index), NO_PRICE
        if machine.has(target.device):
            cost = price(plan, store, index, current, say, rates, calibration=calibration, refit=refit)
        adaptive = asked.target.threads == "auto"
        placement = Placement(target.device, target.threads, devices=target.devices, adaptive=adaptive)
        memory = target.memory_bytes or (math.inf if target.elsewhere else memory_of(target.device))
        processes = None if target.elsewhere else free_processes()
        return with_workers(Fitted(plan, current, cost, placement, memory), machine.cores, processes)

    spec, settings = with_threads(spec, machine, attempt, calibration.idle_cores), dict[str, float]()
    if timed:
        spec = limit_trials(spec, store, lambda spec: attempt(spec).price, refit=refit)
        fitted, settings = within_time(spec, attempt, store, refit=refit)
    else:
        fitted = attempt(spec)
    if spec.tuning.trials != asked.tuning.trials:
        limit = f"tuning.time {asked.tuning.time}"
        chosen = Adjustment("tuning.trials", asked.tuning.trials, spec.tuning.trials, limit)
        notes = (*fitted.notes, *trials_too_long(fitted, asked))
        fitted = replace(fitted, adjustments=(chosen, *fitted.adjustments), notes=notes)
    fitted = replace(fitted, notes=(*fitted.notes, *_slow_precision(fitted, machine)))
    fitted, heavy = _within_memory(fitted)
    problem = _too_large(fitted, heavy, with_settings(spec, settings), attempt) if heavy else fitted.problem
    problem = problem or _too_many(fitted, machine.cores)
    return with_slowdown(replace(fitted, problem=problem), calibration)


def _slow_precision(fitted: Fitted, machine: Machine) -> list[str]:
    spec = fitted.plan.spec
    recipes = (spec.training, spec.irp.training)
    if spec.target.elsewhere or spec.target.device != "cpu" or machine.bfloat16("cpu") or not fitted.estimates:
        return []
    if not any(recipe is not None and recipe.precision == "bfloat16" for recipe in recipes):
        return []
    return ["this processor has no fast bfloat16 instructions: `training.precision: float32` takes less time"]


def with_slowdown(fitted: Fitted, calibration: Calibration) -> Fitted:
    """Return the plan with the slowdown of this machine now, if it has steps to run on the processor."""
    target = fitted.plan.spec.target
    if target.elsewhere or target.device != "cpu" or not fitted.estimates:
        return fitted
    threads = min(fitted.workers * fitted.placement.threads, this_machine().cores)
    slowdown = calibration.slowdown(threads)
    notes = fitted.notes
    if slowdown >= BUSY and target.seconds is not None:
        note = f"this machine is busy: `target.time` {target.time} is compared with the time on an idle machine"
        notes = (*notes, note)
    return replace(fitted, price=replace(fitted.price, slowdown=slowdown), notes=notes)


def fit_steps(fitted: Fitted, names: Collection[str]) -> Fitted:
    """Restrict a plan to some steps: `problem` is None if these fit although the whole plan does not."""
    if fitted.problem is None or len(names) == len(fitted.statuses):
        return fitted
    some, heavy = _within_memory(
        replace(fitted, statuses={name: fitted.statuses[name] for name in names}, problem=None)
    )
    problem = None
    if heavy:
        message, size = _excess(fitted, heavy)
        problem = FitError(message, f"{size} would fit")
    elif (limit := fitted.plan.spec.target.seconds) is not None and (need := some.seconds) > limit:
        problem = FitError(
            f"these steps take about {minutes(need)}, above `target.time` {fitted.plan.spec.target.time}",
            f"`--set target.time={sufficient_time(need)}` is sufficient",
        )
    problem = problem or _too_many(some, this_machine().cores)
    return replace(fitted, placement=some.placement, problem=problem)


def _within_memory(fitted: Fitted) -> tuple[Fitted, dict[str, float]]:
    """Return the plan if it fits, and the peaks of the steps that exceed the memory even at their smallest."""
    if not _too_heavy(fitted):
        return fitted, {}
    word = _memory_word(fitted)
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
    checking = fitted.checking
    return {name: peak + checking for name, peak in _peaks(fitted).items() if peak + checking > fitted.memory}


def _memory_word(fitted: Fitted) -> str:
    """Return the memory limit in words."""
    limit = fitted.plan.spec.target.memory
    return f"target.memory {limit}" if limit != "auto" else f"{binary_size(fitted.memory)} of memory"


def _smaller(placement: Placement) -> list[Placement]:
    batches = [EVALUATION_BATCH]
    while batches[-1] > 1:
        batches.append(-(-batches[-1] // 2))
    return [replace(placement, evaluation_batch=batch, stream=stream) for stream in (False, True) for batch in batches]


def _peaks(fitted: Fitted) -> dict[str, float]:
    # Step to run -> its peak at this placement: the usual peak, measured where possible, minus the modeled saving.
    peaks = {name: float(estimate.peak_bytes) for name, estimate in fitted.estimates.items()}
    if (placement := fitted.placement).usual:
        return peaks
    for name in peaks:
        work, rates = fitted.price.works[name], fitted.price.network_rates(name)
        small = peak_bytes(work, rates, evaluated=placement.evaluation_batch, streamed=placement.stream)
        peaks[name] = float(round(peaks[name] - (peak_bytes(work, rates) - small)))
    return peaks


def _too_large(fitted: Fitted, heavy: Mapping[str, float], spec: Spec, attempt: Callable[[Spec], Fitted]) -> FitError:
    """Return the error with sizes that would fit: of memory and, if a smaller batch is enough, of the batch."""
    message, size = _excess(fitted, heavy)
    if fitted.memory <= fitted.price.base + fitted.checking:
        base = binary_size(fitted.price.base + fitted.checking)
        checking = ", with a process to check emitted models" if fitted.checking else ""
        return FitError(message, f"torch and image readers take {base} here{checking}; {size} would fit")
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
    fixed = fitted.price.base + fitted.checking + peak_bytes(work, {**rates, "train_bytes": 0.0}, streamed=True)
    batch = int((fitted.memory - fixed) / rates["train_bytes"])
    if not 2 <= batch < work.load.batch:
        return None
    batch = 1 << (batch.bit_length() - 1)
    proxy = fitted.plan.steps[name].purpose == "source" and spec.irp.training is not None
    for size in (batch, batch // 2):
        if size > 1 and not _within_memory(attempt(_with_batch(spec, size, proxy=proxy)))[1]:
            return f"{'irp.' if proxy else ''}training.batch={size}"
    return None


def _with_batch(spec: Spec, batch: int, *, proxy: bool) -> Spec:
    section: Any = spec.irp if proxy else spec
    changed = section.model_copy(update={"training": section.training.model_copy(update={"batch": batch})})
    return spec.model_copy(update={"irp": changed}) if proxy else changed


def _check_torch_fits() -> None:
    # Before torch is imported, to trace a network or to measure: the kernel would end this process without a word.
    if (memory := memory_of("cpu")) < USUAL_BASE:
        message = f"torch takes about {binary_size(USUAL_BASE)} of memory, and {binary_size(memory)} are left"
        raise FitError(message, "raise the limit of memory: `autosparse doctor --no-test` names it")


def _too_many(fitted: Fitted, cores: int) -> FitError | None:
    """Return the error for a limit of processes and threads that is too low for a single step."""
    target = fitted.plan.spec.target
    limit, free = (None, None) if target.elsewhere else (most_processes(), free_processes())
    need = processes_of(fitted, cores) * (target.devices if target.device == "cpu" else 1)
    if limit is None or free is None or need <= free or not fitted.to_run:
        return None
    message = f"a step starts up to {need} processes and threads, and {free} are left of the limit of {limit.value}"
    fewer = ", or `--set target.threads=1`" if target.threads != 1 else ""
    return FitError(f"{message} ({limit.source})", f"raise the limit{fewer}")


def _excess(fitted: Fitted, heavy: Mapping[str, float]) -> tuple[str, str]:
    # The step with the highest peak in words, and the option with a `target.memory` in which it fits.
    name, peak = max(heavy.items(), key=lambda item: item[1])
    who = f"step `{name}` and the check of emitted models take" if fitted.checking else f"step `{name}` takes"
    message = f"{who} about {binary_size(peak)} of memory at the peak, above {_memory_word(fitted)}"
    return message, f"`--set target.memory={-(-1.05 * peak // 2**20):.0f}MiB`"
