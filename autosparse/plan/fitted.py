"""A plan that was fitted to its target: what it found, what it costs, where it runs, and what was changed for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autosparse.backends import Place
from autosparse.errors import FitError
from autosparse.plan.compile import Plan
from autosparse.plan.makespan import makespan
from autosparse.plan.price import Estimate, Price
from autosparse.plan.status import Status


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
    """A plan with what it found in the store, its price, and where it runs; `problem` says why it does not fit.

    `notes` are what else the limits have to say.
    """

    plan: Plan
    found: Mapping[str, Status]
    price: Price
    place: Place
    memory: float
    """bytes that there are, infinite where steps run elsewhere and no limit is written"""
    taken: tuple[Taken, ...] = ()
    problem: FitError | None = None
    notes: tuple[str, ...] = ()
    workers: int = 1
    """how many steps run at once"""

    @property
    def left(self) -> Estimate:
        """What is left to do."""
        return self.price.to_run(self.found)

    @property
    def seconds(self) -> float:
        """How long what is left takes, with the time until the first step begins."""
        return self.lasting(self.workers)

    def lasting(self, workers: int) -> float:
        """How long it takes with so many workers, each of which begins once."""
        left = {name: self.price.steps[name].seconds for name in self.to_run if name in self.price.steps}
        begin = self.left.seconds - sum(left.values())
        return begin + makespan(self.plan.steps.values(), left, workers)

    @property
    def to_run(self) -> list[str]:
        """The steps that are left to make."""
        return [name for name, status in self.found.items() if status.status != "reuse"]

    @property
    def priced(self) -> bool:
        """Whether it is known what every step to run costs."""
        return all(status.status == "reuse" or name in self.price.steps for name, status in self.found.items())
