"""The cost of a plan on its target: seconds, peak memory, bytes on disk, for each step and in total.

A step's seconds are its counted work times rates: those of finished steps of the same kind if any exist,
else rates from a probe of this machine. All are seconds on an idle machine, with a range.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any, TypeAlias

from autosparse.backends import (
    EVALUATION_BATCH,
    Placement,
    backends,
    environment,
    idle_cores,
    private_memory,
    release_memory,
    this_machine,
)
from autosparse.cost.work import Work, count_dense_training, count_work
from autosparse.datasets import datasets
from autosparse.foreign_code import foreign_code
from autosparse.measure.network_probe import probe_network
from autosparse.measure.probe import Measurement, Rates, probe_machine, resident
from autosparse.measure.timing import present_slowdown, stopwatch
from autosparse.plan.model import Plan, Step
from autosparse.plan.reasons import SAME
from autosparse.plan.status import Status, to_run
from autosparse.spec import Pretrained
from autosparse.steps import operations
from autosparse.steps.data import DataResult
from autosparse.steps.emit import EmitResult
from autosparse.steps.workload import Counted
from autosparse.store import Index, Record, Store, digest
from autosparse.user_code import label

_VERSION = 2  # of the remembered rates
_LATEST = 5
_PROBED = (0.7, 1.5)  # low and high factor of probed seconds: 0.8 to 1.27 in benchmarks/results/prediction.jsonl
_COUNTED = (0.3, 3.0)  # the same of seconds derived from counted work
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

Say = Callable[[str], None]


@dataclass(frozen=True)
class Calibration:
    """The measurements of a machine: its rates, those of a network, the slowdown of threads, and idle cores."""

    probe_machine: Callable[[Placement, str, Mapping[str, Any]], Measurement] = probe_machine
    probe_network: Callable[..., Measurement] = probe_network
    slowdown: Callable[[int], float] = present_slowdown
    idle_cores: Callable[[], int] = idle_cores


THIS_MACHINE = Calibration()
"""The calibration by measurement on this machine."""


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
    rates = _Rates(plan, store, say, libraries, {} if known is None else known, calibration, refit)
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


def peak_bytes(work: Work, rates: Rates, *, evaluated: int | None = None, streamed: bool = False) -> float:
    """Return a step's peak memory above its process, with `evaluated` images at once, or data `streamed` from disk."""
    factors = {"bytes": 1.0, "data": 0.0 if streamed else 1.0}

    def held(unit: str, count: float) -> float:
        if unit == "forward" and evaluated is not None:
            count = min(count, evaluated)
        return count * (factors[unit] if unit in factors else rates.get(f"{unit}_bytes", 0.0))

    return max((sum(held(unit, count) for unit, count in phase.items()) for phase in work.load.memory), default=0.0)


_Seconds: TypeAlias = tuple[float, float, float, str]  # central, low and high seconds, and their basis


def _past(index: Index, here: Mapping[str, Any], work: Work) -> tuple[_Seconds | None, float | None, int | None]:
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


@dataclass
class _Rates:
    """The rates that a plan needs, from a calibration."""

    plan: Plan
    store: Store
    say: Say
    libraries: int
    known: dict[str, Measurement]
    calibration: Calibration
    refit: bool
    networks: dict[tuple[str, int, str, str], Measurement] = field(default_factory=dict)

    def __post_init__(self) -> None:
        target = self.plan.spec.target
        assert isinstance(target.threads, int), "price takes the plan of a resolved spec"
        # A cluster's machine may have more threads than this one has cores: here they would only slow the probe.
        self.placement = Placement(target.device, min(target.threads, this_machine().cores))
        self.backend = backends[target.backend.name].function(self.placement)
        self.environment = environment(replace(self.placement, threads=target.threads))
        self.here = {name: value for name, value in environment(self.placement).items() if name in SAME}

    @cached_property
    def machine(self) -> Measurement:
        scorer = self.plan.spec.scorer
        name, options = "mlp", {"steps": 1}
        if not isinstance(scorer, Pretrained):
            name, options = scorer.name, scorer.keyed()["options"]
        needed = ("startup", "base", "step", "bytes")
        return self._measurement("machine", [name, options], needed, lambda: self._probe_machine(name, options))

    def _probe_machine(self, scorer: str, options: Mapping[str, Any]) -> Measurement:
        spent = stopwatch()
        self.backend.prepare()
        # A process is measured before its first network: later it keeps freed memory, and has imported torch.
        before = next((known.rates for known in self.known.values() if "startup" in known.rates), None)
        if before is None:
            release_memory()
            base = float(resident(self.placement))
            before = {"startup": spent().idle, "base": base, "private": float(private_memory()) or base}
            if before["startup"] < 1:  # torch was imported before: the time to import it is unknown
                before["startup"] = 3.0
        rates = {name: before[name] for name in ("startup", "base", "private") if name in before}
        made = self.backend.run(lambda placement: self.calibration.probe_machine(placement, scorer, options))
        return replace(made, rates=rates | made.rates)

    def network(self, work: Work) -> Rates:
        """Return the rates of a step's network, at its batch size and precision."""
        return self.measured(work).rates

    def measured(self, work: Work) -> Measurement:
        """Return the measurement of a step's network, at its batch size and precision."""
        if work.network is None:
            return Measurement({})
        trained = (work.network, *self._training(work), work.load.kernels)
        if (known := self.networks.get(trained)) is None:
            known = self.networks[trained] = self._network(*trained)
        return known

    def _network(self, start: str, batch: int, precision: str, kernels: str) -> Measurement:
        network, measure = self.plan.steps[start].network, self.calibration.probe_network
        identity = network.facts.identity

        def probe() -> Measurement:
            self.machine  # noqa: B018 -- the first probe times the import of torch
            if kernels == "compiled":
                self.say(f"compiling {label(network.name)} to measure torch.compile, once: about a minute")
            with foreign_code(f"measuring `{label(network.name)}`"):
                return self.backend.run(lambda placement: measure(network, batch, precision, kernels, placement))

        units = {"dense": (), "sparse": ("sparse",), "compiled": ("compiled", "compiling")}[kernels]
        made = self._measurement(identity, [batch, precision, *units], ("build", "train", *units), probe)
        # Kernels with missing requirements have no rates; a run reports the reason.
        return replace(
            made, rates={**{unit: made.rates["train"] for unit in units if unit != "compiling"}, **made.rates}
        )

    def _training(self, work: Work) -> tuple[int, str]:
        # Steps without training use the rates measured for training the same network.
        if work.load.batch:
            return work.load.batch, work.load.precision
        step = self.plan.steps[work.network or ""]
        recipe = self.plan.spec.irp.training if step.purpose == "source" else self.plan.spec.training
        assert recipe is not None
        return recipe.batch, recipe.precision

    def seconds(self, work: Work) -> _Seconds:
        """Return the seconds of a step on an idle machine, with their range and basis."""
        machine, network = self.machine, self.measured(work)
        rates, derived = machine.rates | network.rates, {*machine.derived, *network.derived}
        seconds = {unit: count * rates.get(unit, 0.0) for unit, count in work.load.units.items() if count}
        counted = sum(value for unit, value in seconds.items() if unit in derived)
        probed = sum(seconds.values()) - counted
        low, high = (a * probed + b * counted for a, b in zip(_PROBED, _COUNTED, strict=True))
        return probed + counted, low, high, "counted work" if counted > probed else "probe"

    def peak(self, work: Work) -> float:
        return self.machine.rates["base"] + self.libraries + peak_bytes(work, self.network(work))

    @property
    def private(self) -> float:
        """The bytes of a process that others do not share; all of them where that is unknown."""
        rates = self.machine.rates
        return min(rates["base"], rates.get("private", math.inf))

    @property
    def on_gpu(self) -> bool:
        """True if memory is that of a GPU, which no other process of the run takes."""
        return self.placement.device.startswith("cuda")

    def of_team(self, step: Step, peak: float) -> float:
        """Return the peak of all processes of a step that a team runs on one CPU; each holds a whole copy."""
        target = self.plan.spec.target
        by_team = target.device == "cpu" and operations[step.operation].facts.get("by_team")
        others = target.devices - 1 if by_team else 0
        return peak + others * max(0.0, peak - self.machine.rates["base"] + self.private)

    def _measurement(
        self, subject: str, details: Any, needed: Iterable[str], probe: Callable[[], Measurement]
    ) -> Measurement:
        key = digest([_VERSION, subject, details, self.here])
        if key not in self.known:
            made = None if self.refit else _read(self.store.recall(f"rates-{key}"), needed)
            if made is None or self._was_cut(made):
                if not self.known:
                    self.say("measuring this machine, once for a network and a batch size; at most 10 s each")
                made = probe()
                self.store.note(f"rates-{key}", asdict(made))
            self.known[key] = made
        return self.known[key]

    def _was_cut(self, made: Measurement) -> bool:
        # True if load cut the measurement short, and there is less of it now.
        if not made.derived or made.slowdown < BUSY:
            return False
        return BUSY * self.calibration.slowdown(self.placement.threads) < made.slowdown


BUSY = 1.5
"""The slowdown from which a machine counts as busy."""


def _read(remembered: object, needed: Iterable[str]) -> Measurement | None:
    # None for a document that is no measurement of these units.
    try:
        made = Measurement(**remembered)  # type: ignore[arg-type]
        numbers = [*made.rates.values(), made.slowdown, made.load]
        named = made.rates.keys() | {*made.derived}
    except (TypeError, AttributeError):
        return None
    if not all(isinstance(number, int | float) and math.isfinite(number) and number >= 0 for number in numbers):
        return None
    return replace(made, derived=tuple(made.derived)) if named >= set(needed) else None
