"""Gains beyond one plan: specs that share an IRP source, and the payoff of compiling trainings."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from autosparse.cost.fitted import Fitted
from autosparse.cost.price import Price
from autosparse.plan.model import Plan
from autosparse.steps.label import LabelResult
from autosparse.store import Index, Store
from autosparse.user_code import label


@dataclass(frozen=True)
class PayBack:
    """What compiling does to the trainings of one network that are to run, by the rates of this machine.

    `seconds` are those that compiling takes of each training, `times` how many times as fast the rest is, and `saved`
    the seconds that all of them take less, compiling included; below 0 it does not pay.
    """

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
    """What a plan's IRPs cost, and who shares them, the spec of this path too; None for a plan without, or of
    unknown cost.
    """
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
