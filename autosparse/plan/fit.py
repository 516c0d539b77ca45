"""Makes a plan fit its target: leaves data on disk, evaluates in smaller batches, lowers what the spec leaves open.

Nothing that was written is touched, and never the training of the networks that are compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from autosparse.backends import Machine, Place, memory_of
from autosparse.errors import FitError
from autosparse.plan.compile import Plan, compile_plan
from autosparse.plan.price import NO_PRICE, Estimate, Price, peak_bytes, price
from autosparse.plan.status import Status, statuses
from autosparse.plan.translate import check_budget
from autosparse.plan.work import EVALUATION_BATCH
from autosparse.spec import Spec, binary_size, open_settings, resolve, with_settings
from autosparse.store import Index, Store, digest

_AIM = 0.8  # a price may be a quarter too low: what is lowered is lowered to this share of the limit
_KEPT = 1.3  # a choice that was made is kept as long as it takes no more than this times the limit
_PATH = (  # what is lowered, in order, and to which share of what it is otherwise
    ("irp.epochs", 0.25),
    ("tuning.trials", 0.25),
    ("irp.rounds", 0.5),
    ("irp.epochs", 0.0),
    ("tuning.trials", 0.0),
    ("irp.rounds", 0.0),
)
_LEAST = {"irp.epochs": 1, "tuning.trials": 1, "irp.rounds": 2}


@dataclass(frozen=True)
class Taken:
    """Something the compiler changed so that the plan fits: what, from, to, and for which limit."""

    what: str
    before: object
    after: object
    limit: str

    def __str__(self) -> str:
        return f"{self.what} {self.before} → {self.after}"


@dataclass(frozen=True)
class Fitted:
    """A plan with what it found in the store, its price, and where it runs; `problem` says why it does not fit."""

    plan: Plan
    found: Mapping[str, Status]
    price: Price
    place: Place
    memory: int
    taken: tuple[Taken, ...] = ()
    problem: FitError | None = None

    @property
    def left(self) -> Estimate:
        """What is left to do."""
        return self.price.to_run(self.found)


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
) -> Fitted:
    """Compile, price and fit a spec. What is chosen under `target.time` is remembered, unless `refit` asks anew;
    without `timed` that limit is left aside, as for a plan that was fitted before.

    Raises UsageError for a budget that is impossible.
    """

    def attempt(settings: Mapping[str, int]) -> Fitted:
        plan = compile_plan(resolve(with_settings(spec, settings), machine), name)
        check_budget(plan)
        target = plan.spec.target
        assert isinstance(target.threads, int)
        found = statuses(plan, store, index)
        return Fitted(
            plan,
            found,
            price(plan, store, index, found, say) if target.device.partition(":")[0] in machine.devices else NO_PRICE,
            Place(target.device, target.threads),
            target.memory_bytes or memory_of(target.device),
        )

    return _in_memory(_in_time(spec, attempt, store, refit=refit) if timed else attempt({}))


def _in_time(spec: Spec, attempt: Callable[[Mapping[str, int]], Fitted], store: Store, *, refit: bool) -> Fitted:
    limit = spec.target.seconds
    if limit is None:
        return attempt({})
    usual = open_settings(spec)
    # The part of the spec that decides what is worth lowering, and the limit itself.
    asked = spec.model_dump(mode="json", include={"model", "dataset", "irp", "scorer", "tuning", "training"})
    memory = f"choice-{digest([asked, limit])}"
    told = partial(_taken, usual, spec.target.time)
    if not refit and (chosen := _as_choice(store.recall(memory), usual)):
        kept = attempt(chosen)
        if kept.left.seconds <= _KEPT * limit:
            return replace(kept, taken=told(chosen))
    steps = _path(usual)
    first, last = attempt(steps[0]), None
    best, settings = first, steps[0]
    if first.left.seconds > _AIM * limit:
        settings = steps[-1]
        best = last = attempt(settings)
        low, high = 0, len(steps) - 1  # steps[low] is too long, steps[high] is not
        while last.left.seconds <= _AIM * limit and high - low > 1:
            middle = (low + high) // 2
            found = attempt(steps[middle])
            if found.left.seconds <= _AIM * limit:
                high, best, settings = middle, found, steps[middle]
            else:
                low = middle
    if last is not None and first.left.seconds <= limit and first.left.seconds <= best.left.seconds:
        # Less would not be cheaper, as where the usual IRP is in the cache.
        best, settings, last = first, steps[0], None
    best = replace(best, taken=told(settings))
    if last is not None and last.left.seconds > limit:
        return replace(best, problem=_too_long(best, spec, usual))
    store.note(memory, settings)
    return best


def _as_choice(remembered: object, usual: Mapping[str, int]) -> dict[str, int] | None:
    if not isinstance(remembered, dict) or remembered.keys() != usual.keys():
        return None
    sound = all(isinstance(value, int) and 0 < value <= usual[path] for path, value in remembered.items())
    return remembered if sound and remembered else None


def _path(usual: Mapping[str, int]) -> list[dict[str, int]]:
    # Settings from what they are otherwise to the least, a little less each.
    found = [dict(usual)]
    for path, share in _PATH:
        if path not in usual:
            continue
        floor = max(_LEAST[path], round(share * usual[path]))
        while (now := found[-1][path]) > floor:
            found.append({**found[-1], path: max(floor, min(now - 1, round(0.85 * now)))})
    return found


def _taken(usual: Mapping[str, int], limit: str, settings: Mapping[str, int]) -> tuple[Taken, ...]:
    return tuple(
        Taken(path, value, settings[path], f"target.time {limit}")
        for path, value in usual.items()
        if value != settings[path]
    )


def _too_long(best: Fitted, spec: Spec, usual: Mapping[str, int]) -> FitError:
    need = best.left.seconds
    lowered = f" even with the least of {', '.join(usual)}" if usual else ", and the spec leaves nothing open to lower"
    own = best.price.of(
        name
        for name, status in best.found.items()
        if status.status != "reuse" and best.plan.steps[name].purpose in ("network", "comparison")
    )
    share = f"; {_minutes(own.seconds)} of that is training what is compared" if own.seconds > need / 2 else ""
    return FitError(
        f"the plan takes about {_minutes(need)}{lowered}, above `target.time` {spec.target.time}",
        f"`--set target.time={_time_that_would_do(need)}` would do{share}",
    )


def _time_that_would_do(seconds: float) -> str:
    value = 1.1 * seconds
    return f"{math.ceil(value)}s" if value < 120 else f"{-(-value // 60):.0f}min"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _in_memory(fitted: Fitted) -> Fitted:
    heavy = [name for name, peak in _peaks(fitted).items() if peak > fitted.memory]
    if not heavy:
        return fitted
    limit = fitted.plan.spec.target.memory
    word = f"target.memory {limit}" if limit != "auto" else f"{binary_size(fitted.memory)} of memory"
    for place in _smaller(fitted):
        smaller = replace(fitted, place=place)
        peaks = _peaks(smaller)
        if max(peaks.values()) <= fitted.memory:
            taken = []
            if place.evaluation_batch < EVALUATION_BATCH:
                taken.append(Taken("images evaluated at once", EVALUATION_BATCH, place.evaluation_batch, word))
            if place.stream:
                taken.append(Taken("data", "in memory", "on disk", word))
            steps = {
                name: replace(estimate, peak_bytes=round(peaks.get(name, estimate.peak_bytes)))
                for name, estimate in fitted.price.steps.items()
            }
            return replace(smaller, price=replace(fitted.price, steps=steps), taken=(*fitted.taken, *taken))
    return replace(fitted, problem=fitted.problem or _too_large(fitted, _peaks(replace(fitted, place=place)), word))


def _smaller(fitted: Fitted) -> Sequence[Place]:
    batches = [EVALUATION_BATCH]
    while batches[-1] > 1:
        batches.append(-(-batches[-1] // 2))
    place = fitted.place
    return [replace(place, evaluation_batch=batch, stream=stream) for stream in (False, True) for batch in batches]


def _peaks(fitted: Fitted) -> dict[str, float]:
    # Step to run -> its peak at the place, with what was measured where steps of the kind have run as usual.
    usual = not fitted.place.stream and fitted.place.evaluation_batch == EVALUATION_BATCH
    found = {}
    for name, status in fitted.found.items():
        if status.status == "reuse" or name not in fitted.price.steps:
            continue
        estimate = fitted.price.steps[name].peak_bytes
        if not usual:
            work, rates = fitted.price.counted[name], fitted.price.network_rates(name)
            most = peak_bytes(work, rates)
            small = peak_bytes(work, rates, evaluated=fitted.place.evaluation_batch, streamed=fitted.place.stream)
            estimate = round(estimate - (most - small))
        found[name] = float(estimate)
    return found


def _too_large(fitted: Fitted, peaks: Mapping[str, float], word: str) -> FitError:
    name = max(peaks, key=lambda step: peaks[step])
    step = fitted.plan.steps[name]
    message = f"step `{name}` takes about {binary_size(peaks[name])} of memory at its peak, above {word}"
    sizes = [f"`--set target.memory={-(-1.05 * peaks[name] // 2**20):.0f}MiB`"]
    if fitted.memory <= fitted.price.base:
        return FitError(
            message, f"torch and what reads images take {binary_size(fitted.price.base)} here; {sizes[0]} would fit"
        )
    batch = _batch_that_fits(fitted, name)
    if batch:
        section = "irp.training" if step.operation == "irp" else "training"
        sizes.append(f"`--set {section}.batch={batch}`")
        return FitError(message, f"{' or '.join(sizes)} would fit, the latter with other results")
    return FitError(message, f"{sizes[0]} would fit")


def _batch_that_fits(fitted: Fitted, name: str) -> int:
    work, rates = fitted.price.counted[name], fitted.price.network_rates(name)
    if not work.batch or not rates.get("train_bytes"):
        return 0
    fixed = fitted.price.base + peak_bytes(work, {**rates, "train_bytes": 0.0}, streamed=True)
    batch = int((fitted.memory - fixed) / rates["train_bytes"])
    return 1 << (batch.bit_length() - 1) if 2 <= batch < work.batch else 0
