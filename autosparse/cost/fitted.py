"""A plan fitted to its target: its cost, its workers, and what was changed for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from autosparse.backends import Placement
from autosparse.cost.price import Estimate, Price
from autosparse.errors import FitError
from autosparse.plan.critical_path import makespan
from autosparse.plan.model import Plan
from autosparse.plan.status import Status, to_run


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
    """A plan with what it found in the store, its price, and where it runs; `problem` says why it does not fit.

    `notes` are what else the limits have to say.
    """

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

    @property
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
