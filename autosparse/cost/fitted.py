"""A plan fitted to its target: its cost, its workers, what was changed for it, what it gains, and all of it as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from autosparse.backends import Placement
from autosparse.cost.price import Estimate, Price
from autosparse.errors import FitError
from autosparse.plan.budgets import translations
from autosparse.plan.graph import makespan
from autosparse.plan.model import Plan
from autosparse.plan.status import Status, count, missing_data, missing_libraries, to_run
from autosparse.steps.label import LabelResult
from autosparse.store import Index, Store
from autosparse.user_code import label


@dataclass(frozen=True)
class Adjustment:
    """Something the compiler changed so that the plan fits: what, from, to, and for which limit."""

    what: str
    before: object
    after: object
    limit: str

    def __str__(self) -> str:
        return f"{self.what} {self.before} → {self.after}"


@dataclass(frozen=True)
class Fitted:
    """A plan with its statuses, price and placement; `problem` says why it does not fit, `notes` what limits add."""

    plan: Plan
    statuses: Mapping[str, Status]
    price: Price
    placement: Placement
    memory: float
    """bytes that there are, infinite where steps run elsewhere and no limit is written"""
    adjustments: tuple[Adjustment, ...] = ()
    problem: FitError | None = None
    notes: tuple[str, ...] = ()
    workers: int = 1
    """how many steps run at once"""

    @property
    def left(self) -> Estimate:
        """What is left to do."""
        return self.price.to_run(self.statuses)

    @cached_property
    def seconds(self) -> float:
        """How long what is left takes, with the time until the first step begins."""
        return self.lasting(self.workers)

    def lasting(self, workers: int) -> float:
        """How long it takes with so many workers, each of which begins once."""
        left = {name: estimate.seconds for name, estimate in self.estimates.items()}
        begin = self.left.seconds - sum(left.values())
        return begin + makespan(self.plan.steps.values(), left, workers)

    @property
    def to_run(self) -> list[str]:
        """The steps that are left to make."""
        return to_run(self.statuses)

    @property
    def estimates(self) -> dict[str, Estimate]:
        """Those of the steps to make, where they are known."""
        return {name: self.price.steps[name] for name in self.to_run if name in self.price.steps}

    @property
    def priced(self) -> bool:
        """Whether it is known what every step to run costs."""
        return self.price.steps.keys() >= set(self.to_run)


_SAVES = 0.8  # several at once are worth it where they take no more than this share of the time
_BRIEF = 20.0  # seconds below which workers, which take seconds to begin, are not


def with_workers(fitted: Fitted, cores: int) -> Fitted:
    """The plan with as many workers as its target asks for and memory holds, or as `auto` stands for."""
    target = fitted.plan.spec.target
    asked = target.workers
    assert isinstance(target.threads, int)
    alone = target.devices > 1  # workers have no processes of their own
    if asked == "auto" and (alone or target.device != "cpu" or not fitted.priced or fitted.seconds < _BRIEF):
        return fitted
    if alone:
        return replace(fitted, adjustments=(*fitted.adjustments, Adjustment("target.workers", asked, 1, "devices")))
    peaks = sorted((estimate.peak_bytes for estimate in fitted.estimates.values()), reverse=True)
    wanted = max(1, cores // target.threads) if asked == "auto" else asked
    room = next((n for n in range(len(peaks)) if sum(peaks[: n + 1]) > fitted.memory), wanted)
    number = max(1, min(wanted, room))
    if asked == "auto":
        return replace(fitted, workers=number if fitted.lasting(number) <= _SAVES * fitted.seconds else 1)
    adjustments = (Adjustment("target.workers", asked, number, "memory"),) if number < asked else ()
    return replace(fitted, workers=number, adjustments=(*fitted.adjustments, *adjustments))


@dataclass(frozen=True)
class PayBack:
    """What compiling gains the trainings of one network: it takes `seconds` each, is `times` as fast, saves `saved`."""

    model: str
    trainings: int
    seconds: float
    times: float
    saved: float

    def json(self) -> dict[str, Any]:
        """As `plan --json` has it."""
        return {name: round(value, 2) if isinstance(value, float) else value for name, value in asdict(self).items()}


def paybacks(fitted: Fitted) -> list[PayBack]:
    """What compiling gives, a network at a time; nothing where nothing to run is compiled, or it is not known yet."""
    price, plan = fitted.price, fitted.plan
    groups: dict[tuple[str | None, int, str], list[str]] = {}
    for name in fitted.to_run:
        work = price.works.get(name)
        if work is not None and work.load.kernels == "compiled":
            groups.setdefault((work.network, work.load.batch, work.load.precision), []).append(name)
    gains = []
    for (start, _, _), names in groups.items():
        rates = price.network_rates(names[0])
        if "compiling" not in rates:
            continue
        network = plan.steps[start or ""].network
        images = sum(price.works[name].load.units["compiled"] for name in names)
        gained = images * (rates["train"] - rates["compiled"]) - len(names) * rates["compiling"]
        times = rates["train"] / rates["compiled"] if rates["compiled"] else 1.0
        gains.append(PayBack(label(network.name), len(names), rates["compiling"], times, gained))
    return gains


@dataclass(frozen=True)
class Shared:
    """The IRPs of a plan: seconds that they took or will take, and how many specs use them, this one included."""

    seconds: float
    specs: int

    @property
    def each(self) -> float:
        return self.seconds / self.specs


def remember_use(plan: Plan, store: Store, spec: str) -> None:
    """Note that a spec, named by its resolved path, uses the labels of a plan's IRPs."""
    for step in plan.of(LabelResult):
        if spec not in _users(store, step.key):
            with store.lock(f"uses-{step.key}"):
                store.note(f"uses-{step.key}", sorted({*_users(store, step.key), spec}))


def shared(plan: Plan, store: Store, index: Index, price: Price, spec: str | None) -> Shared | None:
    """The cost of a plan's IRPs, shared with the spec of this path; None for a plan without, or of unknown cost."""
    labels = plan.of(LabelResult)
    seconds = 0.0
    for step in plan.steps.values():
        if step.purpose != "source":
            continue
        record = index.find(step.key)
        if record is not None and "seconds" in record.about:
            seconds += record.about["seconds"]
        elif step.name in price.steps:
            seconds += price.steps[step.name].seconds
    if not labels or not seconds:
        return None
    this = {spec} if spec else set()
    users = set.intersection(*({*this, *_users(store, step.key)} for step in labels))
    return Shared(seconds, max(1, len(users)))


def _users(store: Store, key: str) -> list[str]:
    users = store.recall(f"uses-{key}")
    return [user for user in users if isinstance(user, str)] if isinstance(users, list) else []


_ESTIMATE = ("seconds", "peak_bytes", "disk_bytes", "basis")


def plan_json(fitted: Fitted, sharing: Shared | None = None) -> dict[str, Any]:
    """Every step with its status, reason and estimate, and what they come to together."""
    plan, statuses, price = fitted.plan, fitted.statuses, fitted.price
    steps = []
    for step in plan.steps.values():
        status, estimate = statuses[step.name], price.steps.get(step.name)
        steps.append(
            {
                "name": step.name,
                "operation": step.operation,
                "purpose": step.purpose,
                "key": step.key,
                "status": status.status,
                "reason": status.reason,
                "changes": [change.json() for change in status.changes],
                "environment": [change.json() for change in status.environment],
                "after": list(status.because),
                "inputs": list(step.inputs.values()),
                "estimate": {name: estimate and getattr(estimate, name) for name in _ESTIMATE},
            }
        )
    left = fitted.left
    known = fitted.priced
    return {
        "schema_version": 1,
        "spec": plan.name,
        "budgets": plan.spec.model_dump(mode="json", include={"budget"})["budget"],
        "translations": None if (converted := translations(plan)) is None else [asdict(item) for item in converted],
        "datasets": [
            {"step": name, "reading": source.reading, "classes": list(source.class_names)}
            for name, source in plan.sources.items()
        ],
        "steps": steps,
        "summary": {
            **count(statuses),
            "seconds": round(fitted.seconds, 2) if known else None,
            "work_seconds": round(left.seconds, 2) if known else None,
            "workers": fitted.workers,
            "dense_trainings": round(left.seconds / price.dense, 2) if known and price.dense else None,
            "peak_bytes": left.peak_bytes if known else None,
            "disk_bytes": left.disk_bytes if known else None,
            "memory_bytes": None if math.isinf(fitted.memory) else fitted.memory,
            "fits": (fitted.problem is None) if known else None,
            "taken": [asdict(adjustment) for adjustment in fitted.adjustments],
            "compiling": [item.json() for item in paybacks(fitted)],
            "source": sharing and {"seconds": round(sharing.seconds, 2), "specs": sharing.specs},
        },
        "warnings": [problem for problem, _ in [*missing_data(plan, statuses), *missing_libraries(plan, statuses)]]
        + [*plan.warnings, *fitted.notes, *([fitted.problem.message] if fitted.problem else [])],
    }
