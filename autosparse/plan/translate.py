"""A plan's budgets for the network that it prunes: refused where impossible, else told in every currency."""

from __future__ import annotations

from autosparse.errors import UsageError
from autosparse.models.facts import NetworkFacts, network_facts
from autosparse.plan.budgets import Translation, check_macs, sparsity_for, translate
from autosparse.plan.compile import Plan
from autosparse.spec import Amount


def check_budget(plan: Plan) -> None:
    """Refuse a budget that leaves the network fewer weights than layers, or more than it has, before anything runs.

    Raises UsageError with what is possible. A network whose images are not there yet is not looked at.
    """
    facts, name = _facts(plan), plan.spec.model.short_name
    for index, budget in enumerate(plan.spec.budget if facts and facts.total else ()):
        assert facts is not None
        try:
            if isinstance(budget, Amount) and budget.currency == "macs":
                check_macs(budget, facts, name)
            else:
                sparsity_for(budget, facts, name)
        except UsageError as error:
            error.at = ("budget", index)
            raise


def translations(plan: Plan) -> list[Translation] | None:
    """Every budget of a checked plan in every currency; None when the size of the images is not known yet."""
    facts = _facts(plan)
    return [translate(budget, facts) for budget in plan.spec.budget] if facts and facts.total else None


def _facts(plan: Plan) -> NetworkFacts | None:
    train = plan.steps[plan.cells[0].train]
    if not plan.sources[train.inputs["data"]].known:
        return None
    start, model = plan.steps[train.inputs["init"]].options, plan.spec.model
    return network_facts(start["model"], model.name, model.options(), tuple(start["shape"]), start["classes"])
