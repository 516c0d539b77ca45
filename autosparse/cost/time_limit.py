"""The time limits `target.time` and `tuning.time`: settings that keep a plan within them, kept until a refit."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from autosparse.cost.fitted import Adjustment, Fitted
from autosparse.cost.price import Price
from autosparse.errors import FitError
from autosparse.spec import HORIZON, Spec, in_percent, open_settings, with_settings
from autosparse.steps import operations
from autosparse.store import Store, digest

_MOST = 500  # trials, unless a spec sets a number
_SEEN = 10  # trials whose mean is the time of one: some may be finished, with known seconds
_AIM = 0.8  # a price may be a quarter too low: settings are lowered to this share of the limit
_CHOICES = 8  # remembered for similar specs
_KEPT = 1.3  # a remembered choice stays while it takes at most this times the limit
_PATH = (  # settings in the order of lowering, each to a share of its default
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


def limit_trials(spec: Spec, store: Store, price: Callable[[Spec], Price], *, refit: bool) -> Spec:
    """Return the spec with a number of trials for its `tuning.time`, if they have a price; remembered until `refit`."""
    limit, chosen = _trial_limit(spec), {} if refit else remembered_trials(spec, store)
    few = {"tuning.trials": min(_SEEN, _most(spec))}
    if limit is not None and not chosen and (trials := _trial_seconds(price(with_settings(spec, few)))):
        number = int(limit / max(statistics.fmean(trials), 1e-6))
        number = max(1, len(spec.tuning.selections), min(_most(spec), number))
        store.note(_trials_memory(spec), number)
        chosen = _chosen(number)
    return with_settings(spec, chosen)


def remembered_trials(spec: Spec, store: Store) -> dict[str, Any]:
    """Return the choice for a spec's `tuning.time`, by path: a number of trials, and no limit; or nothing."""
    if _trial_limit(spec) is None:
        return {}
    kept = store.recall(_trials_memory(spec))
    return _chosen(kept) if isinstance(kept, int) and 0 < kept <= _most(spec) else {}


def _trial_limit(spec: Spec) -> float | None:
    return spec.tuning.seconds if spec.learns and spec.tuning.trials != 0 else None


def _trial_seconds(price: Price) -> list[float]:
    return [estimate.seconds for name, estimate in price.steps.items() if name.startswith("trial/")]


def _chosen(number: int) -> dict[str, Any]:
    return {"tuning.trials": number, "tuning.time": "unlimited"}


def _most(spec: Spec) -> int:
    return _MOST if spec.tuning.trials == "auto" else spec.tuning.trials


def _trials_memory(spec: Spec) -> str:
    # All specs with the same trials share one choice. With a proxy a trial prunes by a method.
    written = spec.model_dump(mode="json")
    names = ["model", "dataset", "irp", "scorer", "tuning", "training"]
    if spec.tuning.proxy is not None:
        names += ["method", "compare"]
    return f"trials-{digest([written[name] for name in names])}"


def remembered_settings(spec: Spec, store: Store) -> dict[str, Any]:
    """Return the compiler's choice of settings for a spec's time limits, by path; empty without a choice."""
    settings = remembered_trials(spec, store)
    spec = with_settings(spec, settings)
    if spec.target.seconds is not None:
        settings |= _as_choice(store.recall(_memories(spec)[0]), open_settings(spec), _least(spec)) or {}
    return settings


def within_time(
    spec: Spec, attempt: Callable[[Spec], Fitted], store: Store, *, refit: bool
) -> tuple[Fitted, dict[str, float]]:
    """Return the plan within `target.time`, and the values of its open settings, by path."""
    limit = spec.target.seconds
    if limit is None:
        return attempt(spec), {}
    usual = open_settings(spec)

    def tried(settings: Mapping[str, float]) -> Fitted:
        lowered = _adjustments(usual, spec.target.time, settings)
        return replace(attempt(with_settings(spec, settings)), adjustments=lowered)

    if not refit and (kept := _kept(spec, usual, tried, store)):
        return kept
    first = tried(usual)
    if not first.priced:  # the cost is unknown while its data or its device is missing
        return first, usual
    open_here = _worth_lowering(usual, first)
    steps = _path(usual, _least(spec), open_here)
    attempts = {0: first}

    def fits(number: int) -> bool:
        attempts[number] = attempts.get(number) or tried(steps[number])
        return attempts[number].seconds <= _AIM * limit

    chosen = first_fitting(len(steps), fits)
    best, settings = attempts[chosen], steps[chosen]
    if first.seconds <= min(limit, best.seconds):
        # Lower settings would not be cheaper, for example with the usual IRP in the cache.
        best, settings = first, steps[0]
    if best.seconds > limit:
        return replace(best, problem=_too_long(best, spec, open_here, cached=len(open_here) < len(usual))), settings
    _remember(spec, settings, store)
    return best, settings


def first_fitting(count: int, fits: Callable[[int], bool]) -> int:
    """Return the first of `count` numbers that fits, else the last: by bisection, after the first and the last."""
    low, high = 0, count - 1
    if fits(low):
        return low
    if low == high or not fits(high):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def trials_too_long(fitted: Fitted, asked: Spec) -> list[str]:
    """Return a note if even the fewest trials take longer than `tuning.time`."""
    tuning = asked.tuning
    need = sum(_trial_seconds(fitted.price))
    number = fitted.plan.spec.tuning.trials
    if need <= _KEPT * (tuning.seconds or math.inf) or number != max(1, len(tuning.selections)):
        return []
    trials = "the minimum of one trial takes" if number == 1 else f"{number} trials, the minimum, take"
    return [f"{trials} about {minutes(need)}, above `tuning.time` {tuning.time}"]


def _memories(spec: Spec) -> tuple[str, str]:
    # Keys of the choice for a spec, and of those for all specs that learn the same scorer in the same time.
    written = spec.model_dump(mode="json")
    del written["target"]["threads"]  # chosen for each plan
    part = {name: written[name] for name in ("model", "dataset", "irp", "scorer", "tuning", "training")}
    return f"choice-{digest([written, spec.target.seconds])}", f"choices-{digest([part, spec.target.seconds])}"


def _kept(
    spec: Spec, usual: Mapping[str, float], tried: Callable[[Mapping[str, float]], Fitted], store: Store
) -> tuple[Fitted, dict[str, float]] | None:
    # The choice for this spec; else the one for a variant of it whose rounds or trials are in the store.
    limit = spec.target.seconds
    assert limit is not None
    exact, alike = _memories(spec)
    if chosen := _as_choice(store.recall(exact), usual, _least(spec)):
        kept = tried(chosen)
        if (need := kept.seconds) <= limit:
            return kept, chosen
        if need <= _KEPT * limit:
            note = (
                f"it takes about {minutes(need)}, above `target.time` {spec.target.time}: the earlier choice is kept, "
                "and `--refit` chooses again"
            )
            return replace(kept, notes=(*kept.notes, note)), chosen
        return None
    others = store.recall(alike)
    alternatives = []
    for settings in others if isinstance(others, list) else ():
        if chosen := _as_choice(settings, usual, _least(spec)):
            kept = tried(chosen)
            made = [step for step in kept.plan.steps.values() if "chained" in operations[step.operation].facts]
            if kept.seconds <= limit and any(kept.statuses[step.name].status == "reuse" for step in made):
                alternatives.append((kept.seconds, kept, chosen))
    if not alternatives:
        return None
    _, kept, chosen = min(alternatives, key=lambda one: one[0])
    _remember(spec, chosen, store)
    return kept, chosen


def _remember(spec: Spec, settings: Mapping[str, float], store: Store) -> None:
    exact, alike = _memories(spec)
    others = store.recall(alike)
    others = others if isinstance(others, list) else []
    store.note(exact, settings)
    store.note(alike, [dict(settings), *(other for other in others if other != settings)][:_CHOICES])


def _as_choice(remembered: object, usual: Mapping[str, float], least: Mapping[str, float]) -> dict[str, float] | None:
    if not isinstance(remembered, dict) or not remembered or remembered.keys() != usual.keys():
        return None
    for path, value in remembered.items():
        if not isinstance(value, int | float) or not least[path] <= value <= max(least[path], usual[path]):
            return None
    return remembered


def _least(spec: Spec) -> dict[str, float]:
    # The scorer learns nothing from fewer rounds.
    return {**_LEAST, "irp.rounds": max(_LEAST["irp.rounds"], spec.fewest_rounds)}


def _worth_lowering(usual: Mapping[str, float], first: Fitted) -> list[str]:
    # Rounds and trials in the cache cost no time; with other settings they would have to run.
    steps = [first.plan.steps[name] for name in first.to_run]
    trials = [step.purpose == "scorer" for step in steps if "chained" in operations[step.operation].facts]
    to_run = {"irp.epochs": False in trials, "irp.rounds": False in trials, "tuning.trials": True in trials}
    return [path for path in usual if to_run.get(path, True)]


def _path(usual: Mapping[str, float], least: Mapping[str, float], lowered: Collection[str]) -> list[dict[str, float]]:
    # Settings from the defaults to the least, in small steps.
    steps = [dict(usual)]
    for path, share in _PATH:
        if path not in lowered:
            continue
        floor = max(least[path], round(share * usual[path]))
        while (now := steps[-1][path]) > floor:
            steps.append({**steps[-1], path: max(floor, min(now - 1, round(0.85 * now)))})
    return steps


def _adjustments(usual: Mapping[str, float], limit: str, settings: Mapping[str, float]) -> tuple[Adjustment, ...]:
    return tuple(
        Adjustment(path, _as_written(path, value), _as_written(path, settings[path]), f"target.time {limit}")
        for path, value in usual.items()
        if value != settings[path]
    )


def _as_written(path: str, value: float) -> object:
    return in_percent(value) if path == HORIZON else value


def _too_long(best: Fitted, spec: Spec, lowered: Collection[str], *, cached: bool) -> FitError:
    need = best.seconds
    attempted = (
        ", with everything that it may lower in the cache" if cached else ", and the spec leaves nothing open to lower"
    )
    if lowered:
        attempted = f" even with the minimum of {', '.join(lowered)}"
    steps = best.plan.steps
    compared = best.price.of(name for name in best.to_run if steps[name].purpose in ("network", "comparison"))
    share = f"; {minutes(compared.seconds)} of that trains the compared methods" if compared.seconds > need / 2 else ""
    return FitError(
        f"the plan takes about {minutes(need)}{attempted}, above `target.time` {spec.target.time}",
        f"`--set target.time={sufficient_time(need)}` is sufficient{share}",
    )


def sufficient_time(seconds: float) -> str:
    """Return a `target.time` in which a plan of this price fits."""
    value = 1.1 * seconds
    return f"{math.ceil(value)}s" if value < 120 else f"{-(-value // 60):.0f}min"


def minutes(seconds: float) -> str:
    """Format a time in seconds, or in minutes from two on."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
