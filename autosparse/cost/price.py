"""The cost of a plan on its target: seconds, peak memory, bytes on disk, for each step and in total.

A step's seconds are its counted work times rates: those of finished steps of the same kind if any exist,
else rates from a probe of this machine. All are seconds on an idle machine, with a range.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from autosparse.backends import (
    EVALUATION_BATCH,
)
from autosparse.cost.rates import THIS_MACHINE, Calibration, MachineRates, Say, Seconds, peak_bytes
from autosparse.cost.work import Work, count_dense_training, count_work
from autosparse.datasets import datasets
from autosparse.measure.probe import Measurement, Rates
from autosparse.planning.model import Plan
from autosparse.planning.reasons import SAME
from autosparse.planning.status import Status, to_run
from autosparse.steps.data import DataResult
from autosparse.steps.emit import EmitResult
from autosparse.steps.workload import Counted
from autosparse.store import Index, Record, Store

_LATEST = 5
_FINISHED = (0.85, 1.2)  # of the slowest and fastest finished steps: runs repeat within 15 %, with new steps between
_BASES = ("counted work", "probe", "finished steps", "made")  # from the least certain
_LIBRARIES = 75 * 2**20  # bytes of libraries that read datasets; a registration may state more (`holds`)


@dataclass(frozen=True)
class Estimate:
    """The seconds on an idle machine, peak memory and bytes on disk of a step, and the basis of its seconds.

    A basis is `made`, `finished steps`, `probe`, or `counted work` where the probe had no time to measure.
    """

    seconds: float
    peak_bytes: int
    disk_bytes: int
    basis: str
    below: float = 0.0
    """seconds that the low end of the range is below `seconds`"""
    above: float = 0.0
    """seconds that the high end of the range is above `seconds`"""

    @property
    def seconds_low(self) -> float:
        return max(0.0, self.seconds - self.below)

    @property
    def seconds_high(self) -> float:
        return self.seconds + self.above


@dataclass(frozen=True)
class Price:
    """Estimates of the steps with known network and data, and one-time costs: `startup` seconds, `base` bytes.

    `dense` is the counted work of training the spec's dense network, the unit that costs are compared in.
    """

    steps: Mapping[str, Estimate]
    startup: float
    base: int
    dense: Counted | None
    works: Mapping[str, Work] = field(repr=False, default_factory=dict)
    network_rates: Callable[[str], Rates] = field(repr=False, default=lambda name: {})
    """step name -> the rates of its network on this machine, probed if unknown"""
    private: int = 0
    """bytes of a process before its first step, without the pages of libraries, which processes share"""
    emitting: tuple[str, ...] = ()
    """steps to run whose models another process checks, which lives until the run ends"""
    slowdown: float = 1.0
    """wall time at this moment over that of an idle machine, for all workers"""

    def of(self, names: Iterable[str]) -> Estimate:
        """Combine several steps: the sum of seconds and bytes, the highest peak."""
        estimates = [self.steps[name] for name in names if name in self.steps]
        return Estimate(
            sum(estimate.seconds for estimate in estimates),
            max((estimate.peak_bytes for estimate in estimates), default=0),
            sum(estimate.disk_bytes for estimate in estimates),
            next((basis for basis in _BASES if any(e.basis == basis for e in estimates)), "made"),
            sum(estimate.below for estimate in estimates),
            sum(estimate.above for estimate in estimates),
        )

    def to_run(self, statuses: Mapping[str, Status]) -> Estimate:
        """Return the estimate of the remaining work, with the time until the first step begins."""
        left = self.of(names := to_run(statuses))
        return replace(left, seconds=left.seconds + (self.startup if names else 0.0))

    def checking(self, names: Collection[str], *, evaluated: int | None = None, streamed: bool = False) -> int:
        """Return the bytes of the process that checks the models emitted by some steps, at a placement; 0 for none."""
        peaks = (
            peak_bytes(self.works[name], self.network_rates(name), evaluated=evaluated, streamed=streamed)
            for name in self.emitting
            if name in names
        )
        return round(max((self.private + peak for peak in peaks), default=0))


NO_PRICE = Price({}, 0.0, 0, None)
"""The price for a device that this machine lacks."""


def price(
    plan: Plan,
    store: Store,
    index: Index,
    statuses: Mapping[str, Status],
    say: Say = lambda text: None,
    known: dict[str, Measurement] | None = None,
    *,
    calibration: Calibration = THIS_MACHINE,
    refit: bool = False,
) -> Price:
    """Price every step of a resolved spec's plan; a reused step keeps its recorded price.

    `say` is called before a probe, `known` keeps rates for the next call, and `refit` measures remembered rates again.
    """
    left = to_run(statuses)
    read = [step.access["dataset"]["name"] for step in plan.of(DataResult) if step.name in left]
    libraries = max((datasets[name].facts.get("holds", _LIBRARIES) for name in read), default=0)
    libraries = 0 if plan.spec.target.device.startswith("cuda") else libraries
    rates = MachineRates(plan, store, say, libraries, {} if known is None else known, calibration, refit)
    machine = {"startup": 0.0, "base": 0.0}
    if left and any(source.known for source in plan.sources.values()):  # else no step has a price
        machine = rates.machine.rates  # before tracing a network: the first import of torch is timed
    works = count_work(plan)
    steps = {}
    for name, work in works.items():
        record = index.find(plan.steps[name].key)
        if statuses[name].status == "reuse" and record is not None:
            about = record.about
            steps[name] = Estimate(about.get("seconds", 0.0), about.get("peak_bytes") or 0, record.bytes, "made")
            continue
        past, peak, stored = _past(index, rates.environment, work)
        seconds, low, high, basis = past or rates.seconds(work)
        stored = work.load.disk_bytes if stored is None else stored
        peak = rates.of_team(plan.steps[name], peak or rates.peak(work))
        estimate = Estimate(round(seconds, 4), round(peak), stored, basis)
        steps[name] = replace(estimate, below=round(seconds - low, 4), above=round(high - seconds, 4))
    base = round(machine["base"]) + rates.libraries
    emissions = [step.name for step in plan.of(EmitResult) if step.name in left and step.name in works]
    emitting = () if rates.on_gpu else tuple(emissions)
    if emissions and (first := steps[emissions[0]]).basis in ("probe", "counted work"):
        # It starts the checking process, which imports torch.
        steps[emissions[0]] = replace(first, seconds=first.seconds + machine["startup"])
    return Price(
        steps,
        machine["startup"],
        base,
        count_dense_training(plan),
        works,
        lambda name: rates.network(works[name]),
        round(rates.private) if left and works else 0,
        emitting,
    )


def _past(index: Index, here: Mapping[str, Any], work: Work) -> tuple[Seconds | None, float | None, int | None]:
    # From the latest finished steps of a kind: seconds on an idle machine, peak memory, bytes on disk.
    def alike(record: Record) -> bool:
        made = record.about.get("environment", {})
        # A step with its data on disk is slower than usual, and holds less.
        return all(made.get(name) == here[name] for name in SAME) and not made.get("stream")

    records = index.kinds.get(work.kind, ())
    abouts = [record.about for record in islice(filter(alike, records), _LATEST)]
    amount = work.load.amount
    times = [
        about.get("idle_seconds", about["seconds"]) / before * amount
        for about in abouts
        if (before := about["work"]["amount"])
    ]
    peaks = [
        about["peak_bytes"]
        for about in abouts
        if about.get("peak_bytes")
        and about["work"].get("held") == work.held
        and about["environment"].get("evaluation_batch") == EVALUATION_BATCH
    ]
    seconds = None
    if times:
        low, high = _FINISHED[0] * min(times), _FINISHED[1] * max(times)
        seconds = (statistics.median(times), low, high, "finished steps")
    return seconds, statistics.median(peaks) if peaks else None, records[0].bytes if records else None
