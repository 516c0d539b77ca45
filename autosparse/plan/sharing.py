"""Which specs share an IRP: what it cost is spread over them."""

from __future__ import annotations

from dataclasses import dataclass

from autosparse.plan.compile import Plan
from autosparse.plan.price import Price
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
    """Note that a spec, named by its path, uses the labels of a plan's IRPs."""
    for step in plan.of("label"):
        users = _users(store, step.key)
        if spec not in users:
            store.note(f"uses-{step.key}", sorted([*users, spec]))


def shared(plan: Plan, store: Store, index: Index, price: Price, spec: str) -> Shared | None:
    """What a plan's IRPs cost, and who shares them; None for a plan without, or of unknown cost."""
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
    users = set.intersection(*({spec, *_users(store, step.key)} for step in labels))
    return Shared(seconds, len(users))


def _users(store: Store, key: str) -> list[str]:
    found = store.recall(f"uses-{key}")
    return [user for user in found if isinstance(user, str)] if isinstance(found, list) else []
