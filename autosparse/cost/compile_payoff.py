"""The payoff of compiling the trainings of a plan."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from autosparse.cost.fitted import Fitted
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
        work = price.counted.get(name)
        if work is not None and work.kernels == "compiled":
            groups.setdefault((work.network, work.batch, work.precision), []).append(name)
    found = []
    for (start, _, _), names in groups.items():
        rates = price.network_rates(names[0])
        if "compiling" not in rates:
            continue
        step = plan.steps[start or ""]
        reach = step.access.get("model", step.options["model"])
        images = sum(price.counted[name].units["compiled"] for name in names)
        gained = images * (rates["train"] - rates["compiled"]) - len(names) * rates["compiling"]
        times = rates["train"] / rates["compiled"] if rates["compiled"] else 1.0
        found.append(PayBack(label(reach["name"]), len(names), rates["compiling"], times, gained))
    return found
