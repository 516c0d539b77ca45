"""The plan compiler: a spec becomes steps with keys; the store tells which of them are there."""

from autosparse.plan.budgets import Between, Translation
from autosparse.plan.compile import Cell, Plan, compile_plan, own_code
from autosparse.plan.status import Status, count, missing_data, missing_device, plan_json, statuses
from autosparse.plan.step import Step
from autosparse.plan.translate import check_budget, translations

__all__ = [
    "Between",
    "Cell",
    "Plan",
    "Status",
    "Step",
    "Translation",
    "check_budget",
    "compile_plan",
    "count",
    "missing_data",
    "missing_device",
    "own_code",
    "plan_json",
    "statuses",
    "translations",
]
