"""One search for all budgets in a plan: its step, and the masks taken from its order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autosparse.errors import InvalidValue
from autosparse.planning.builder import Builder
from autosparse.planning.cells import Named
from autosparse.planning.model import PlannedBudget
from autosparse.spec import Method


def add_stages(
    build: Builder,
    one: Named,
    inputs: Mapping[str, str],
    budgets: Sequence[PlannedBudget],
    options: Mapping[str, Any],
    paths: Mapping[str, str],
) -> str:
    """Add the search whose order has the masks of all budgets, and return its step.

    `options` are those of the method's masks at one budget. Raises InvalidValue for a budget that is no number of
    weights.
    """
    for budget in budgets:
        if budget.amount is not None and (budget.is_latency or "macs" in budget.options.get("budget", ())):
            message = f"one search for all budgets takes budgets in weights, but one is {budget.label}"
            raise InvalidValue(message, "remove `shared`", f"{one.path}.schedule.shared")
    sparsities = sorted({budget.sparsity for budget in budgets if budget.sparsity is not None})
    about = {name: options[name] for name in ("method", "training", "seed")}
    name = f"search/{one.name}/seed{options['seed']}"
    about["sparsities"] = sparsities or [0.0]  # unknown until the images exist; no key is final until then
    return build.add(name, "search_stages", about, inputs, one.purpose, paths=paths)


def ordered(options: Mapping[str, Any], method: Method) -> dict[str, Any]:
    """Return the options of a mask that is taken from an order, for those of a method's mask."""
    parts = method.model_dump(exclude={"horizon", "schedule", "criterion"})
    taken = Method.model_validate({**parts, "criterion": "order", "schedule": "one_shot"})
    rest = {name: value for name, value in options.items() if name != "training"}
    return {**rest, "method": {part: choice for part, choice in taken.choices().items() if part != "updates"}}
