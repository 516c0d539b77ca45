"""A plan fitted to its target: cost, workers, adjustments, gain of compiling, and all of it as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from autosparse.backends import Placement, this_machine
from autosparse.cost.price import Estimate, Price
from autosparse.datasets.scan import Scan
from autosparse.errors import FitError
from autosparse.planning.budgets import translations
from autosparse.planning.graph import makespan
from autosparse.planning.model import Plan
from autosparse.planning.status import Status, count, missing_data, missing_device, missing_libraries, to_run
from autosparse.steps.label import LabelResult
from autosparse.steps.workload import Counted, sum_counted
from autosparse.store import Index, Store
from autosparse.user_code import label


@dataclass(frozen=True)
class Adjustment:
    """A change by the compiler that makes the plan fit: setting, old value, new value, and the limit."""

    what: str
    before: object
    after: object
    limit: str

    def __str__(self) -> str:
        return f"{self.what} {self.before} → {self.after}"


@dataclass(frozen=True)
class Fitted:
    """A plan with its statuses, price and placement; `problem` is the reason for no fit, `notes` warn about limits."""

    plan: Plan
    statuses: Mapping[str, Status]
    price: Price
    placement: Placement
    memory: float
    """available bytes, infinite if steps run on other machines without a memory limit"""
    adjustments: tuple[Adjustment, ...] = ()
    problem: FitError | None = None
    notes: tuple[str, ...] = ()
    workers: int = 1
    """number of steps that run at once"""
    disk_free_bytes: int | None = None
    """free bytes on the disk of the cache, where they are known and a step is to run"""

    @property
    def left(self) -> Estimate:
        """The estimate of the remaining work; its peak holds the process that checks emitted models."""
        left = self.price.to_run(self.statuses)
        return replace(left, peak_bytes=left.peak_bytes + self.checking)

    @property
    def checking(self) -> int:
        """The bytes of the process that checks emitted models, which may run next to every step."""
        batch, stream = self.placement.evaluation_batch, self.placement.stream
        return self.price.checking(self.estimates, evaluated=batch, streamed=stream)

    @cached_property
    def seconds(self) -> float:
        """The duration of the remaining work in seconds, with the time until the first step begins."""
        return self.lasting(self.workers)

    @property
    def idle_range(self) -> tuple[float, float]:
        """The lowest and highest duration on an idle machine, in seconds."""
        left = self.left
        together = self.seconds / left.seconds if left.seconds else 1.0
        return together * left.seconds_low, together * left.seconds_high

    @property
    def present_range(self) -> tuple[float, float]:
        """The lowest and highest duration on this machine with its present load, in seconds."""
        low, high = self.idle_range
        return self.price.slowdown * low, self.price.slowdown * high

    def lasting(self, workers: int) -> float:
        """Return the duration in seconds with this number of workers, each of which starts once."""
        left = {name: estimate.seconds for name, estimate in self.estimates.items()}
        begin = self.left.seconds - sum(left.values())
        return begin + makespan(self.plan.steps.values(), left, workers)

    @property
    def to_run(self) -> list[str]:
        """The names of the steps that remain to run."""
        return to_run(self.statuses)

    @property
    def estimates(self) -> dict[str, Estimate]:
        """The known estimates of the steps to run."""
        return {name: self.price.steps[name] for name in self.to_run if name in self.price.steps}

    @property
    def counted(self) -> Counted:
        """The counted work of the steps to run, the same on every machine."""
        works = self.price.works
        return sum_counted(works[name].load.counted for name in self.to_run if name in works)

    @property
    def trainings(self) -> float | None:
        """The counted work in trainings of the dense network; None for steps of unknown cost."""
        return self.counted.macs / self.price.dense.macs if self.priced and self.price.dense else None

    @property
    def priced(self) -> bool:
        """True if every step to run has a known cost."""
        return self.price.steps.keys() >= set(self.to_run)


BRIEF = 20.0
"""Seconds below which the start of workers, itself seconds long, does not pay."""
_SAVES = 0.8  # several workers are worthwhile if they need at most this share of the time
_FEW = 4  # threads of a process that wait for others


def with_workers(fitted: Fitted, cores: int, processes: int | None = None) -> Fitted:
    """Return the plan with the workers that its target asks for, or the number for `auto`.

    Memory limits them, and the number of `processes` and threads that may still start, if there is a limit.
    """
    target = fitted.plan.spec.target
    asked = target.workers
    assert isinstance(target.threads, int)
    alone = target.devices > 1  # workers cannot start processes
    if asked == "auto" and (alone or target.device != "cpu" or not fitted.priced or fitted.seconds < BRIEF):
        return fitted
    if alone:
        return replace(fitted, adjustments=(*fitted.adjustments, Adjustment("target.workers", asked, 1, "devices")))
    peaks = sorted((estimate.peak_bytes for estimate in fitted.estimates.values()), reverse=True)
    wanted = max(1, cores // target.threads) if asked == "auto" else asked
    room = next((n for n in range(1, len(peaks)) if _held(fitted, peaks[: n + 1]) > fitted.memory), wanted)
    able = wanted if processes is None else processes // processes_of(fitted, cores)
    number = max(1, min(wanted, room, able))
    if asked == "auto":
        return replace(fitted, workers=number if fitted.lasting(number) <= _SAVES * fitted.seconds else 1)
    limit = "memory" if room <= able else "processes"
    adjustments = (Adjustment("target.workers", asked, number, limit),) if number < asked else ()
    return replace(fitted, workers=number, adjustments=(*fitted.adjustments, *adjustments))


def _held(fitted: Fitted, peaks: Sequence[int]) -> int:
    # Bytes of several workers, each with its process to check emitted models, and of the run's process. All of them
    # share the pages of libraries.
    price = fitted.price
    return sum(peaks) + len(peaks) * (fitted.checking - price.base + price.private) + price.base


def processes_of(fitted: Fitted, cores: int) -> int:
    """Return the processes and threads that one worker may start: torch's threads, a linear algebra library's, a few.

    Its process to check emitted models starts as many.
    """
    threads = fitted.plan.spec.target.threads
    assert isinstance(threads, int)
    return (threads + cores + _FEW) * (2 if fitted.checking else 1)


@dataclass(frozen=True)
class PayBack:
    """The gain of compiling for one network's trainings: `seconds` each, speed-up `times`, `saved` seconds in total."""

    model: str
    trainings: int
    seconds: float
    times: float
    saved: float

    def json(self) -> dict[str, Any]:
        """Return the value in `plan --json`."""
        return {name: round(value, 2) if isinstance(value, float) else value for name, value in asdict(self).items()}


def paybacks(fitted: Fitted) -> list[PayBack]:
    """Return the gain of compiling for each network; empty if no step to run is compiled, or the gain is unknown."""
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
    """The IRPs of a plan: seconds that they took or will take, and the number of specs that use them, with this one."""

    seconds: float
    specs: int

    @property
    def each(self) -> float:
        return self.seconds / self.specs


def remember_use(plan: Plan, store: Store, spec: str) -> None:
    """Record that a spec, named by its resolved path, uses the labels of a plan's IRPs."""
    for step in plan.of(LabelResult):
        if spec not in _users(store, step.key):
            with store.lock(f"uses-{step.key}"):
                store.note(f"uses-{step.key}", sorted({*_users(store, step.key), spec}))


def shared(plan: Plan, store: Store, index: Index, price: Price, spec: str | None) -> Shared | None:
    """Return the cost of a plan's IRPs, shared with the spec of this path; None without IRPs or with unknown cost."""
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


_ESTIMATE = ("seconds", "seconds_low", "seconds_high", "peak_bytes", "disk_bytes", "basis")


def plan_json(fitted: Fitted, sharing: Shared | None = None, scans: Mapping[str, Scan] | None = None) -> dict[str, Any]:
    """Return every step with its status, reason and estimate, the totals, and the scans of datasets by step."""
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
                "counted": asdict(price.works[step.name].load.counted) if step.name in price.works else None,
            }
        )
    return {
        "schema_version": 1,
        "spec": plan.name,
        "budgets": plan.spec.model_dump(mode="json", include={"budget"})["budget"],
        "translations": None if (converted := translations(plan)) is None else [asdict(item) for item in converted],
        "datasets": [
            {
                "step": name,
                "reading": source.reading,
                "classes": list(source.class_names),
                "scan": scans[name].json() if scans and name in scans else None,
            }
            for name, source in plan.sources.items()
        ],
        "steps": steps,
        "summary": _summary_json(fitted, sharing),
        "warnings": [problem for problem, _ in missing_here(fitted)]
        + [*plan.warnings, *fitted.notes, *([fitted.problem.message] if fitted.problem else [])],
    }


def missing_here(fitted: Fitted) -> list[tuple[str, str]]:
    """Return the data, libraries and device that the steps to run lack here, each with a hint."""
    plan, statuses = fitted.plan, fitted.statuses
    device = missing_device(plan, this_machine()) if fitted.to_run else []
    return [*missing_data(plan, statuses), *missing_libraries(plan, statuses), *device]


def _summary_json(fitted: Fitted, sharing: Shared | None) -> dict[str, Any]:
    left, known, slowdown = fitted.left, fitted.priced, fitted.price.slowdown
    return {
        **count(fitted.statuses),
        "seconds": round(fitted.seconds, 2) if known else None,
        "seconds_low": round(fitted.idle_range[0], 2) if known else None,
        "seconds_high": round(fitted.idle_range[1], 2) if known else None,
        "slowdown": round(slowdown, 2) if known else None,
        "present_seconds_low": round(fitted.present_range[0], 2) if known else None,
        "present_seconds_high": round(fitted.present_range[1], 2) if known else None,
        "work_seconds": round(left.seconds, 2) if known else None,
        "workers": fitted.workers,
        "dense_trainings": None if (trainings := fitted.trainings) is None else round(trainings, 4),
        "counted": asdict(fitted.counted) if known else None,
        "peak_bytes": left.peak_bytes if known else None,
        "disk_bytes": left.disk_bytes if known else None,
        "disk_free_bytes": fitted.disk_free_bytes,
        "memory_bytes": None if math.isinf(fitted.memory) else fitted.memory,
        "fits": (fitted.problem is None) if known else None,
        "taken": [asdict(adjustment) for adjustment in fitted.adjustments],
        "compiling": [item.json() for item in paybacks(fitted)],
        "source": sharing and {"seconds": round(sharing.seconds, 2), "specs": sharing.specs},
    }
