"""The rates of a machine and of networks that a plan needs: remembered ones, or those of a probe.

All are for seconds on an idle machine.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

from autosparse.backends import (
    Placement,
    backends,
    environment,
    idle_cores,
    private_memory,
    release_memory,
    this_machine,
)
from autosparse.cost.work import Work
from autosparse.foreign_code import foreign_code, printing_to_stderr
from autosparse.measure.network_probe import HASTE, count_network, probe_network
from autosparse.measure.probe import STARTUP, Measurement, Rates, count_machine, probe_machine, resident
from autosparse.measure.timing import present_slowdown, stopwatch
from autosparse.planning.model import Plan, Step
from autosparse.planning.reasons import SAME
from autosparse.spec import Pretrained
from autosparse.steps import operations
from autosparse.store import Store, digest
from autosparse.user_code import label

BUSY = 1.5
"""The slowdown from which a machine counts as busy."""

_VERSION = 2  # of the remembered rates
_PROBED = (0.7, 1.5)  # low and high factor of probed seconds: 0.8 to 1.27 in benchmarks/results/prediction.jsonl
_COUNTED = (0.3, 3.0)  # the same of seconds derived from counted work

Say = Callable[[str], None]
Seconds: TypeAlias = tuple[float, float, float, str]  # central, low and high seconds, and their basis


@dataclass(frozen=True)
class Calibration:
    """The measurements of a machine: its rates, those of a network, the slowdown of threads, and idle cores."""

    probe_machine: Callable[[Placement, str, Mapping[str, Any]], Measurement] = probe_machine
    probe_network: Callable[..., Measurement] = probe_network
    slowdown: Callable[[int], float] = present_slowdown
    idle_cores: Callable[[], int] = idle_cores


THIS_MACHINE = Calibration()
"""The calibration by measurement on this machine."""


def peak_bytes(work: Work, rates: Rates, *, evaluated: int | None = None, streamed: bool = False) -> float:
    """Return a step's peak memory above its process, with `evaluated` images at once, or data `streamed` from disk."""
    factors = {"bytes": 1.0, "data": 0.0 if streamed else 1.0}

    def held(unit: str, count: float) -> float:
        if unit == "forward" and evaluated is not None:
            count = min(count, evaluated)
        return count * (factors[unit] if unit in factors else rates.get(f"{unit}_bytes", 0.0))

    return max((sum(held(unit, count) for unit, count in phase.items()) for phase in work.load.memory), default=0.0)


@dataclass
class MachineRates:
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
        return self._measurement("machine", [name, options], needed, lambda: self._machine(name, options))

    @cached_property
    def haste(self) -> float:
        """The slowdown at which a probe is not worth the import of torch; 0 on a quieter machine, or after it."""
        if self.on_gpu or self.refit or "torch" in sys.modules:
            return 0.0
        slowdown = self.calibration.slowdown(1)
        return slowdown if slowdown >= HASTE else 0.0

    def _machine(self, scorer: str, options: Mapping[str, Any]) -> Measurement:
        if self.haste:
            return count_machine(self.haste)
        spent = stopwatch()
        self.backend.prepare()
        # A process is measured before its first network: later it keeps freed memory, and has imported torch.
        before = next((known.rates for known in self.known.values() if "startup" in known.rates), None)
        if before is None:
            release_memory()
            base = float(resident(self.placement))
            before = {"startup": spent().idle, "base": base, "private": float(private_memory()) or base}
            if before["startup"] < 1:  # torch was imported before: the time to import it is unknown
                before["startup"] = STARTUP
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
            if self.haste:
                return count_network(network, precision, kernels, self.placement.threads, self.haste)
            self.machine  # noqa: B018 -- the first probe times the import of torch
            if kernels == "compiled":
                self.say(f"compiling {label(network.name)} to measure torch.compile, once: about a minute")
            with printing_to_stderr(), foreign_code(f"measuring `{label(network.name)}`"):
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

    def seconds(self, work: Work) -> Seconds:
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
                if not self.known and self.haste:
                    self.say("this machine is too busy to measure it: times follow from counted work alone")
                elif not self.known:
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
