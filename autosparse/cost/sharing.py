"""The specs that share an IRP source; its cost is spread over them."""

from __future__ import annotations

from dataclasses import dataclass

from autosparse.cost.price import Price
from autosparse.plan.model import Plan
from autosparse.store import Index, Store


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
    for step in plan.of("label"):
        if spec not in _users(store, step.key):
            with store.lock(f"uses-{step.key}"):
                store.note(f"uses-{step.key}", sorted({*_users(store, step.key), spec}))


def shared(plan: Plan, store: Store, index: Index, price: Price, spec: str | None) -> Shared | None:
    """What a plan's IRPs cost, and who shares them, the spec of this path too; None for a plan without, or of
    unknown cost.
    """
    labels = plan.of("label")
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
    own = {spec} if spec else set()
    users = set.intersection(*({*own, *_users(store, step.key)} for step in labels))
    return Shared(seconds, max(1, len(users)))


def _users(store: Store, key: str) -> list[str]:
    found = store.recall(f"uses-{key}")
    return [user for user in found if isinstance(user, str)] if isinstance(found, list) else []
