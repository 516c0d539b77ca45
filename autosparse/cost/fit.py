"""Makes a plan fit its target: leaves data on disk, evaluates in smaller batches, lowers what the spec leaves open.

Nothing that was written is touched, and never the training of the networks that are compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from autosparse.backends import EVALUATION_BATCH, Machine, Place, memory_of
from autosparse.cost.fitted import Fitted, Taken, with_workers
from autosparse.cost.price import NO_PRICE, THIS_MACHINE, Calibration, peak_bytes, price
from autosparse.cost.trials import limit_trials, remembered_trials
from autosparse.errors import FitError
from autosparse.measure.probe import Rates
from autosparse.plan.budgets import check_budget
from autosparse.plan.compile import compile_plan
from autosparse.plan.status import statuses
from autosparse.spec import HORIZON, Spec, binary_size, in_percent, open_settings, resolve, with_settings
from autosparse.store import Index, Store, digest

_AIM = 0.8  # a price may be a quarter too low: what is lowered is lowered to this share of the limit
_CHOICES = 8  # that are remembered for specs alike
_KEPT = 1.3  # a choice that was made is kept as long as it takes no more than this times the limit
_PATH = (  # what is lowered, in order, and to which share of what it is otherwise
    ("irp.epochs", 0.25),
    ("tuning.trials", 0.25),
    ("irp.rounds", 0.5),
    (HORIZON, 0.2),
    ("irp.epochs", 0.0),
    ("tuning.trials", 0.0),
    ("irp.rounds", 0.0),
    (HORIZON, 0.0),
)
_LEAST = {"irp.epochs": 1, "tuning.trials": 1, "irp.rounds": 2, HORIZON: 0}


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
    """Compile, price and fit a spec. What is chosen under `target.time` and `tuning.time` is remembered, unless `refit`
    measures the machine and asks anew; without `timed` they are left aside, as for a plan that was fitted before.

    Raises UsageError for a budget that is impossible.
    """
    rates: dict[str, Rates] = {}

    def attempt(spec: Spec) -> Fitted:
        plan = compile_plan(resolve(spec, machine), name)
        check_budget(plan)
        target = plan.spec.target
        assert isinstance(target.threads, int)
        found = statuses(plan, store, index)
        return with_workers(
            Fitted(
                plan,
                found,
                price(plan, store, index, found, say, rates, calibration=calibration, refit=refit)
                if machine.has(target.device)
                else NO_PRICE,
                Place(target.device, target.threads, devices=target.devices),
                target.memory_bytes or (math.inf if target.elsewhere else memory_of(target.device)),
            ),
            machine.cores,
        )

    asked = spec
    spec = limit_trials(spec, store, lambda spec: attempt(spec).price, refit=refit) if timed else spec
    fitted, settings = _in_time(spec, attempt, store, refit=refit) if timed else (attempt(spec), {})
    if spec.tuning.trials != asked.tuning.trials:
        chosen = Taken("tuning.trials", asked.tuning.trials, spec.tuning.trials, f"tuning.time {asked.tuning.time}")
        notes = (*fitted.notes, *_trials_too_long(fitted, asked))
        fitted = replace(fitted, taken=(chosen, *fitted.taken), notes=notes)
    fitted, heavy = _in_memory(fitted)
    return (
        replace(fitted, problem=_too_large(fitted, heavy, with_settings(spec, settings), attempt)) if heavy else fitted
    )


def remembered_settings(spec: Spec, store: Store) -> dict[str, Any]:
    """What the compiler chose for a spec to keep to its limits of time, by path; nothing where it has not."""
    found = remembered_trials(spec, store)
    spec = with_settings(spec, found)
    if spec.target.seconds is not None:
        found |= _as_choice(store.recall(_memories(spec)[0]), open_settings(spec), _least(spec)) or {}
    return found


def fit_steps(fitted: Fitted, names: Collection[str]) -> Fitted:
    """A plan of which only some steps run: where they fit though all do not, `problem` is None."""
    if fitted.problem is None or len(names) == len(fitted.found):
        return fitted
    some, heavy = _in_memory(replace(fitted, found={name: fitted.found[name] for name in names}, problem=None))
    problem = None
    if heavy:
        size = f"`--set target.memory={_mebibytes(heavy)}`"
        problem = FitError(f"{_peak_of(heavy)}, above {_memory_word(fitted)}", f"{size} would fit")
    elif (limit := fitted.plan.spec.target.seconds) is not None and (need := some.seconds) > limit:
        problem = FitError(
            f"these steps take about {_minutes(need)}, above `target.time` {fitted.plan.spec.target.time}",
            f"`--set target.time={_time_that_would_do(need)}` would do",
        )
    return replace(fitted, place=some.place, problem=problem)


def _in_time(
    spec: Spec, attempt: Callable[[Spec], Fitted], store: Store, *, refit: bool
) -> tuple[Fitted, Mapping[str, float]]:
    # The plan, and what it takes for what the spec leaves open.
    limit = spec.target.seconds
    if limit is None:
        return attempt(spec), {}
    usual = open_settings(spec)

    def tried(settings: Mapping[str, float]) -> Fitted:
        return replace(attempt(with_settings(spec, settings)), taken=_taken(usual, spec.target.time, settings))

    if not refit and (kept := _kept(spec, usual, tried, store)):
        return kept
    first, last = tried(usual), None
    if not first.priced:  # what it takes is not known before its data or its device is there
        return first, usual
    open_here = _worth_lowering(usual, first)
    steps = _path(usual, _least(spec), open_here)
    best, settings = first, steps[0]
    if first.seconds > _AIM * limit:
        settings = steps[-1]
        best = last = tried(settings)
        low, high = 0, len(steps) - 1  # steps[low] is too long, steps[high] is not
        while last.seconds <= _AIM * limit and high - low > 1:
            middle = (low + high) // 2
            found = tried(steps[middle])
            if found.seconds <= _AIM * limit:
                high, best, settings = middle, found, steps[middle]
            else:
                low = middle
    if last is not None and first.seconds <= limit and first.seconds <= best.seconds:
        # Less would not be cheaper, as where the usual IRP is in the cache.
        best, settings, last = first, steps[0], None
    if last is not None and last.seconds > limit:
        return replace(best, problem=_too_long(best, spec, open_here, cached=len(open_here) < len(usual))), settings
    _remember(spec, settings, store)
    return best, settings


def _trials_too_long(fitted: Fitted, asked: Spec) -> list[str]:
    # Some trials there have to be, whatever they take.
    tuning = asked.tuning
    need = sum(estimate.seconds for name, estimate in fitted.price.steps.items() if name.startswith("trial/"))
    number = fitted.plan.spec.tuning.trials
    if need <= _KEPT * (tuning.seconds or math.inf) or number != max(1, len(tuning.selections)):
        return []
    trials = "one trial is the least, and takes" if number == 1 else f"{number} trials are the least, and take"
    return [f"{trials} about {_minutes(need)}, above `tuning.time` {tuning.time}"]


def _memories(spec: Spec) -> tuple[str, str]:
    # Where the choice for a spec is remembered, and those for all that would learn the same scorer in the same time.
    written = spec.model_dump(mode="json")
    part = {name: written[name] for name in ("model", "dataset", "irp", "scorer", "tuning", "training")}
    return f"choice-{digest([written, spec.target.seconds])}", f"choices-{digest([part, spec.target.seconds])}"


def _kept(
    spec: Spec, usual: Mapping[str, float], tried: Callable[[Mapping[str, float]], Fitted], store: Store
) -> tuple[Fitted, Mapping[str, float]] | None:
    # The choice that was made for this spec; else that for a variant of it whose rounds or trials are in the store.
    limit = spec.target.seconds
    assert limit is not None
    own, alike = _memories(spec)
    if chosen := _as_choice(store.recall(own), usual, _least(spec)):
        kept = tried(chosen)
        if (need := kept.seconds) <= limit:
            return kept, chosen
        if need <= _KEPT * limit:
            note = (
                f"it takes about {_minutes(need)}, above `target.time` {spec.target.time}: what was chosen for it "
                "before is kept, and `--refit` chooses anew"
            )
            return replace(kept, notes=(*kept.notes, note)), chosen
        return None
    others = store.recall(alike)
    found = []
    for settings in others if isinstance(others, list) else ():
        if chosen := _as_choice(settings, usual, _least(spec)):
            kept = tried(chosen)
            made = [step for step in kept.plan.steps.values() if step.operation in ("irp", "trial")]
            if kept.seconds <= limit and any(kept.found[step.name].status == "reuse" for step in made):
                found.append((kept.seconds, kept, chosen))
    if not found:
        return None
    _, kept, chosen = min(found, key=lambda one: one[0])
    _remember(spec, chosen, store)
    return kept, chosen


def _remember(spec: Spec, settings: Mapping[str, float], store: Store) -> None:
    own, alike = _memories(spec)
    others = store.recall(alike)
    others = others if isinstance(others, list) else []
    store.note(own, settings)
    store.note(alike, [dict(settings), *(other for other in others if other != settings)][:_CHOICES])


def _as_choice(remembered: object, usual: Mapping[str, float], least: Mapping[str, float]) -> dict[str, float] | None:
    if not isinstance(remembered, dict) or remembered.keys() != usual.keys():
        return None
    sound = all(
        isinstance(value, int | float) and (least[path] <= value <= usual[path] or value == least[path])
        for path, value in remembered.items()
    )
    return remembered if sound and remembered else None


def _least(spec: Spec) -> dict[str, float]:
    # Fewer rounds than the scorer learns from would be spent for nothing.
    return {**_LEAST, "irp.rounds": max(_LEAST["irp.rounds"], spec.fewest_rounds)}


def _worth_lowering(usual: Mapping[str, float], first: Fitted) -> list[str]:
    # What is in the cache as it is takes no time, and with less of it would have to be made.
    left = {first.plan.steps[name].operation for name, found in first.found.items() if found.status != "reuse"}
    made = {"irp.epochs": "irp", "irp.rounds": "irp", "tuning.trials": "trial"}
    return [path for path in usual if path not in made or made[path] in left]


def _path(usual: Mapping[str, float], least: Mapping[str, float], lowered: Collection[str]) -> list[dict[str, float]]:
    # Settings from what they are otherwise to the least, a little less each.
    found = [dict(usual)]
    for path, share in _PATH:
        if path not in lowered:
            continue
        floor = max(least[path], round(share * usual[path]))
        while (now := found[-1][path]) > floor:
            found.append({**found[-1], path: max(floor, min(now - 1, round(0.85 * now)))})
    return found


def _taken(usual: Mapping[str, float], limit: str, settings: Mapping[str, float]) -> tuple[Taken, ...]:
    return tuple(
        Taken(path, _as_written(path, value), _as_written(path, settings[path]), f"target.time {limit}")
        for path, value in usual.items()
        if value != settings[path]
    )


def _as_written(path: str, value: float) -> object:
    return in_percent(value) if path == HORIZON else value


def _too_long(best: Fitted, spec: Spec, lowered: Collection[str], *, cached: bool) -> FitError:
    need = best.seconds
    told = ", and the spec leaves nothing open to lower"
    if lowered or cached:
        told = (
            f" even with the least of {', '.join(lowered)}" if lowered else ", with what is open to lower in the cache"
        )
    own = best.price.of(
        name
        for name, status in best.found.items()
        if status.status != "reuse" and best.plan.steps[name].purpose in ("network", "comparison")
    )
    share = f"; {_minutes(own.seconds)} of that is training what is compared" if own.seconds > need / 2 else ""
    return FitError(
        f"the plan takes about {_minutes(need)}{told}, above `target.time` {spec.target.time}",
        f"`--set target.time={_time_that_would_do(need)}` would do{share}",
    )


def _time_that_would_do(seconds: float) -> str:
    value = 1.1 * seconds
    return f"{math.ceil(value)}s" if value < 120 else f"{-(-value // 60):.0f}min"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _in_memory(fitted: Fitted) -> tuple[Fitted, dict[str, float]]:
    # The plan where it fits, and the peaks of the steps that take too much even in the smallest place.
    if not _too_heavy(fitted):
        return fitted, {}
    word = _memory_word(fitted)
    for place in _smaller(fitted):
        smaller = replace(fitted, place=place)
        if not _too_heavy(smaller):
            taken = []
            if place.evaluation_batch < EVALUATION_BATCH:
                taken.append(Taken("images evaluated at once", EVALUATION_BATCH, place.evaluation_batch, word))
            if place.stream:
                taken.append(Taken("data", "in memory", "on disk", word))
            peaks = _peaks(smaller)
            steps = {
                name: replace(estimate, peak_bytes=round(peaks.get(name, estimate.peak_bytes)))
                for name, estimate in fitted.price.steps.items()
            }
            return replace(smaller, price=replace(fitted.price, steps=steps), taken=(*fitted.taken, *taken)), {}
    return fitted, _too_heavy(replace(fitted, place=place))


def _too_heavy(fitted: Fitted) -> dict[str, float]:
    return {name: peak for name, peak in _peaks(fitted).items() if peak > fitted.memory}


def _memory_word(fitted: Fitted) -> str:
    limit = fitted.plan.spec.target.memory
    return f"target.memory {limit}" if limit != "auto" else f"{binary_size(fitted.memory)} of memory"


def _smaller(fitted: Fitted) -> Sequence[Place]:
    batches = [EVALUATION_BATCH]
    while batches[-1] > 1:
        batches.append(-(-batches[-1] // 2))
    place = fitted.place
    return [replace(place, evaluation_batch=batch, stream=stream) for stream in (False, True) for batch in batches]


def _peaks(fitted: Fitted) -> dict[str, float]:
    # Step to run -> its peak at the place, with what was measured where steps of the kind have run as usual.
    found = {}
    for name, status in fitted.found.items():
        if status.status == "reuse" or name not in fitted.price.steps:
            continue
        estimate = fitted.price.steps[name].peak_bytes
        if not fitted.place.usual:
            work, rates = fitted.price.counted[name], fitted.price.network_rates(name)
            most = peak_bytes(work, rates)
            small = peak_bytes(work, rates, evaluated=fitted.place.evaluation_batch, streamed=fitted.place.stream)
            estimate = round(estimate - (most - small))
        found[name] = float(estimate)
    return found


def _too_large(fitted: Fitted, heavy: Mapping[str, float], spec: Spec, attempt: Callable[[Spec], Fitted]) -> FitError:
    # The sizes that would fit: of memory, and where a smaller batch makes the plan fit, of the batch.
    message = f"{_peak_of(heavy)}, above {_memory_word(fitted)}"
    size = f"`--set target.memory={_mebibytes(heavy)}`"
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
    work, rates = fitted.price.counted[name], fitted.price.network_rates(name)
    if not work.batch or not rates.get("train_bytes"):
        return None
    fixed = fitted.price.base + peak_bytes(work, {**rates, "train_bytes": 0.0}, streamed=True)
    batch = int((fitted.memory - fixed) / rates["train_bytes"])
    if not 2 <= batch < work.batch:
        return None
    batch = 1 << (batch.bit_length() - 1)
    proxy = fitted.plan.steps[name].operation == "irp" and spec.irp.training is not None
    for size in (batch, batch // 2):
        if size > 1 and not _in_memory(attempt(_with_batch(spec, size, proxy=proxy)))[1]:
            return f"{'irp.' if proxy else ''}training.batch={size}"
    return None


def _with_batch(spec: Spec, batch: int, *, proxy: bool) -> Spec:
    if proxy:
        assert spec.irp.training is not None
        training = _replaced(spec.irp.training, batch=batch)
        return spec.model_copy(update={"irp": spec.irp.model_copy(update={"training": training})})
    return spec.model_copy(update={"training": _replaced(spec.training, batch=batch)})


def _replaced(value: Any, **changes: Any) -> Any:
    return value.model_copy(update=changes) if hasattr(value, "model_copy") else replace(value, **changes)


def _peak_of(heavy: Mapping[str, float]) -> str:
    name = max(heavy, key=lambda step: heavy[step])
    return f"step `{name}` takes about {binary_size(heavy[name])} of memory at its peak"


def _mebibytes(heavy: Mapping[str, float]) -> str:
    return f"{-(-1.05 * max(heavy.values()) // 2**20):.0f}MiB"
