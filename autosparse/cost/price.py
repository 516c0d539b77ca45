"""The cost of a plan on its target: seconds, peak memory, bytes on disk, for each step and in total.

A step's seconds are its counted work times rates: those of finished steps of the same kind if any exist,
else rates from a single probe of this machine.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any, TypeGuard

from autosparse.backends import EVALUATION_BATCH, Placement, backends, environment, system_load, this_machine
from autosparse.cost.work import Work, count_dense_training, count_work
from autosparse.datasets import datasets
from autosparse.foreign_code import foreign_code
from autosparse.measure.probe import Rates, probe_machine, probe_network, resident
from autosparse.plan.model import Plan
from autosparse.plan.reasons import SAME
from autosparse.plan.status import Status, to_run
from autosparse.spec import Pretrained
from autosparse.steps.data import DataResult
from autosparse.steps.workload import Counted
from autosparse.store import Index, Record, Store, digest
from autosparse.user_code import label

_VERSION = 1  # of the remembered rates
_LATEST = 5
_LIBRARIES = 75 * 2**20  # bytes of libraries that read datasets; a registration may state more (`holds`)


@dataclass(frozen=True)
class Estimate:
    """The seconds, peak memory and bytes on disk of a step, on a basis: `made`, `finished steps` or `probe`."""

    seconds: float
    peak_bytes: int
    disk_bytes: int
    basis: str


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

    def of(self, names: Iterable[str]) -> Estimate:
        """Combine several steps: the sum of seconds and bytes, the highest peak."""
        estimates = [self.steps[name] for name in names if name in self.steps]
        return Estimate(
            sum(estimate.seconds for estimate in estimates),
            max((estimate.peak_bytes for estimate in estimates), default=0),
            sum(estimate.disk_bytes for estimate in estimates),
            next((b for b in ("probe", "finished steps") if any(e.basis == b for e in estimates)), "made"),
        )

    def to_run(self, statuses: Mapping[str, Status]) -> Estimate:
        """Return the estimate of the remaining work, with the time until the first step begins."""
        left = self.of(names := to_run(statuses))
        return replace(left, seconds=left.seconds + (self.startup if names else 0.0))


NO_PRICE = Price({}, 0.0, 0, None)
"""The price for a device that this machine lacks."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Calibration:
    """The probes that measure a machine's rates, by unit of work: of the machine, of a network, and of its load."""

    probe_machine: Callable[[Placement, str, Mapping[str, Any]], Rates] = probe_machine
    probe_network: Callable[..., Rates] = probe_network
    load: Callable[[], float] = system_load

    def warning(self) -> str | None:
        """Warn of a load that makes rates too slow."""
        if (busy := self.load()) <= this_machine().cores / 2:
            return None
        reason = f"other processes keep it busy (load {busy:.1f}, {this_machine().cores} cores)"
        return f"{reason}: times will be too long until `--refit` measures again"


THIS_MACHINE = Calibration()
"""The calibration by measurement on this machine."""


def price(
    plan: Plan,
    store: Store,
    index: Index,
    statuses: Mapping[str, Status],
    say: Say = lambda text: None,
    known: dict[str, Rates] | None = None,
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
    if left:
        machine = rates.machine  # before tracing a network: the first import of torch is timed
    works = count_work(plan)
    steps = {}
    for name, work in works.items():
        record = index.find(plan.steps[name].key)
        if statuses[name].status == "reuse" and record is not None:
            about = record.about
            steps[name] = Estimate(about.get("seconds", 0.0), about.get("peak_bytes") or 0, record.bytes, "made")
            continue
        rate, peak, stored = _past(index, rates.environment, work)
        seconds = rates.seconds(work) if rate is None else rate * work.load.amount
        basis = "probe" if rate is None else "finished steps"
        stored = work.load.disk_bytes if stored is None else stored
        steps[name] = Estimate(round(seconds, 4), round(peak or rates.peak(work)), stored, basis)
    base = round(machine["base"]) + rates.libraries
    dense = count_dense_training(plan)
    return Price(steps, machine["startup"], base, dense, works, lambda name: rates.network(works[name]))


def peak_bytes(work: Work, rates: Rates, *, evaluated: int | None = None, streamed: bool = False) -> float:
    """Return a step's peak memory above its process, with `evaluated` images at once, or data `streamed` from disk."""
    factors = {"bytes": 1.0, "data": 0.0 if streamed else 1.0}

    def held(unit: str, count: float) -> float:
        if unit == "forward" and evaluated is not None:
            count = min(count, evaluated)
        return count * (factors[unit] if unit in factors else rates.get(f"{unit}_bytes", 0.0))

    return max((sum(held(unit, count) for unit, count in phase.items()) for phase in work.load.memory), default=0.0)


def _past(index: Index, here: Mapping[str, Any], work: Work) -> tuple[float | None, float | None, int | None]:
    # From the latest finished steps of a kind: seconds per unit of amount, peak memory, bytes on disk.
    def alike(record: Record) -> bool:
        made = record.about.get("environment", {})
        # A step with its data on disk is slower than usual, and holds less.
        return all(made.get(name) == here[name] for name in SAME) and not made.get("stream")

    records = index.kinds.get(work.kind, ())
    abouts = [record.about for record in islice(filter(alike, records), _LATEST)]
    rates = [about["seconds"] / amount for about in abouts if (amount := about["work"]["amount"])]
    peaks = [
        about["peak_bytes"]
        for about in abouts
        if about.get("peak_bytes")
        and about["work"].get("held") == work.held
        and about["environment"].get("evaluation_batch") == EVALUATION_BATCH
    ]
    rate, peak = (statistics.median(values) if values else None for values in (rates, peaks))
    return rate, peak, records[0].bytes if records else None


@dataclass
class _Rates:
    """The rates that a plan needs, from a calibration."""

    plan: Plan
    store: Store
    say: Say
    libraries: int
    known: dict[str, Rates]
    calibration: Calibration
    refit: bool
    networks: dict[tuple[str, int, str, str], Rates] = field(default_factory=dict)

    def __post_init__(self) -> None:
        target = self.plan.spec.target
        assert isinstance(target.threads, int), "price takes the plan of a resolved spec"
        # A cluster's machine may have more threads than this one has cores: here they would only slow the probe.
        self.placement = Placement(target.device, min(target.threads, this_machine().cores))
        self.backend = backends[target.backend.name].function(self.placement)
        self.environment = environment(replace(self.placement, threads=target.threads))
        self.here = {name: value for name, value in environment(self.placement).items() if name in SAME}

    @cached_property
    def machine(self) -> Rates:
        scorer = self.plan.spec.scorer
        name, options = "mlp", {"steps": 1}
        if not isinstance(scorer, Pretrained):
            name, options = scorer.name, scorer.keyed()["options"]
        needed = ("startup", "base", "step", "bytes")
        return self._rates("machine", [name, options], needed, lambda: self._probe_machine(name, options))

    def _probe_machine(self, scorer: str, options: Mapping[str, Any]) -> Rates:
        begin = time.perf_counter()
        self.backend.prepare()
        rates = {"startup": time.perf_counter() - begin, "base": float(resident(self.placement))}
        if rates["startup"] < 1:  # torch was imported before: the time to import it is unknown
            rates["startup"] = 3.0
        return rates | self.backend.run(lambda placement: self.calibration.probe_machine(placement, scorer, options))

    def network(self, work: Work) -> Rates:
        """Return the rates of a step's network, at its batch size and precision."""
        if work.network is None:
            return {}
        trained = (work.network, *self._training(work), work.load.kernels)
        if (known := self.networks.get(trained)) is None:
            known = self.networks[trained] = self._network(*trained)
        return known

    def _network(self, start: str, batch: int, precision: str, kernels: str) -> Rates:
        network, measure = self.plan.steps[start].network, self.calibration.probe_network
        identity = network.facts.identity

        def probe() -> Rates:
            self.machine  # noqa: B018 -- the first probe times the import of torch
            with foreign_code(f"measuring `{label(network.name)}`"):
                return self.backend.run(lambda placement: measure(network, batch, precision, kernels, placement))

        units = {"dense": (), "sparse": ("sparse",), "compiled": ("compiled", "compiling")}[kernels]
        rates = self._rates(identity, [batch, precision, *units], ("build", "train", *units), probe)
        # Kernels with missing requirements have no rates; a run reports the reason.
        return {**{name: rates["train"] for name in units if name != "compiling"}, **rates}

    def _training(self, work: Work) -> tuple[int, str]:
        # Steps without training use the rates measured for training the same network.
        if work.load.batch:
            return work.load.batch, work.load.precision
        step = self.plan.steps[work.network or ""]
        recipe = self.plan.spec.irp.training if step.purpose == "source" else self.plan.spec.training
        assert recipe is not None
        return recipe.batch, recipe.precision

    def seconds(self, work: Work) -> float:
        rates = self.machine | self.network(work)
        return sum(count * rates.get(unit, 0.0) for unit, count in work.load.units.items() if count)

    def peak(self, work: Work) -> float:
        return self.machine["base"] + self.libraries + peak_bytes(work, self.network(work))

    def _rates(self, subject: str, details: Any, needed: Iterable[str], probe: Callable[[], Rates]) -> Rates:
        key = digest([_VERSION, subject, details, self.here])
        if key not in self.known:
            rates = None if self.refit else self.store.recall(f"rates-{key}")
            if not _are_rates(rates, needed):
                if not self.known:
                    self.say("measuring this machine, once for a network and a batch size; a few seconds")
                    if warning := self.calibration.warning():
                        self.say(warning)
                rates = probe()
                self.store.note(f"rates-{key}", rates)
            self.known[key] = rates
        return self.known[key]


def _are_rates(rates: object, needed: Iterable[str]) -> TypeGuard[Rates]:
    if not isinstance(rates, dict) or not rates.keys() >= set(needed):
        return False
    return all(isinstance(value, int | float) and math.isfinite(value) and value >= 0 for value in rates.values())
