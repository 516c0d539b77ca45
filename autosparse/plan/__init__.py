"""The plan compiler: a spec becomes steps with keys; the store tells which of them are there."""

from autosparse.plan.chain import chain, explained
from autosparse.plan.compile import Cell, Plan, compile_plan, own_code
from autosparse.plan.reasons import Change
from autosparse.plan.status import Status, check_budget, count, missing_data, missing_device, plan_json, statuses
from autosparse.plan.step import Step

__all__ = [
    "Cell",
    "Change",
    "Plan",
    "Status",
    "Step",
    "chain",
    "check_budget",
    "compile_plan",
    "count",
    "explained",
    "missing_data",
    "missing_device",
    "own_code",
    "plan_json",
    "statuses",
]
