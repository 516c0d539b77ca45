"""A budget as steps are told it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autosparse.spec import Amount


@dataclass(frozen=True)
class PlannedBudget:
    """A budget by what it is called: a sparsity where it is one, else an amount such as of multiply-adds."""

    label: str
    sparsity: float | None
    amount: Amount | None = None

    @property
    def name(self) -> str:
        return self.label.replace(" ", "-")

    @property
    def options(self) -> dict[str, Any]:
        """What of it the steps are told: a sparsity wherever it is one, so that equal masks have equal keys."""
        if self.amount is None:
            return {"sparsity": self.sparsity}
        return {"budget": {self.amount.currency: self.amount.amount}}


def strictest(budgets: Sequence[PlannedBudget]) -> PlannedBudget:
    """The budget that leaves least."""
    # Multiply-adds are no sparsity before masks are made: they count where there is nothing else.
    shares = [budget for budget in budgets if budget.sparsity is not None]
    if shares:
        return max(shares, key=lambda budget: budget.sparsity or 0.0)
    return min(budgets, key=lambda budget: budget.amount.amount if budget.amount else 0)
