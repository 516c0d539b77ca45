"""A plan's budgets for the network that it prunes: refused where impossible, else told in every currency."""

from __future__ import annotations

from autosparse.errors import UsageError
from autosparse.models.facts import NetworkFacts
from autosparse.plan.budgets import Translation, check_macs, sparsity_for, translate
from autosparse.plan.compile import Plan, facts_of
from autosparse.spec import Amount


def check_budget(plan: Plan) -> None:
    """Refuse a budget that leaves the network fewer weights than layers, or more than it has, before anything runs.

    Raises UsageError with what is possible. A network whose images are not there yet is not looked at.
    """
    if (facts := _facts(plan)) is None:
        return
    name = plan.spec.model.short_name
    for index, budget in enumerate(plan.spec.budget):
        try:
            if isinstance(budget, Amount) and budget.currency == "macs":
                check_macs(budget, facts, name)
            else:
                sparsity_for(budget, facts, name)
        except UsageError as error:
            error.at = ("budget", index)
            raise


def translations(plan: Plan) -> list[Translation] | None:
    """Every budget of a checked plan in every currency; None while the size of the images is not known."""
    facts = _facts(plan)
    return None if facts is None else [translate(budget, facts) for budget in plan.spec.budget]


def _facts(plan: Plan) -> NetworkFacts | None:
    inputs = plan.steps[plan.cells[0].train].inputs
    if not plan.sources[inputs["data"]].known:
        return None
    facts = facts_of(plan.steps[inputs["init"]], plan.spec.model)
    return facts if facts.total else None  # a network with nothing to prune fails in its first mask, saying why
