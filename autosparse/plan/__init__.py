"""The plan compiler: a spec becomes steps with keys; the store tells which of them are there."""

from autosparse.plan.compile import Cell, Plan, compile_plan, own_code
from autosparse.plan.draw import draw_dot, draw_mermaid
from autosparse.plan.saved import SavedPlan, check_unmoved, read_plan, save_plan, spec_of
from autosparse.plan.select import Selection, select_steps
from autosparse.plan.status import Status, check_budget, count, missing_data, missing_device, plan_json, statuses
from autosparse.plan.step import PURPOSES, Step

__all__ = [
    "PURPOSES",
    "Cell",
    "Plan",
    "SavedPlan",
    "Selection",
    "Status",
    "Step",
    "check_budget",
    "check_unmoved",
    "compile_plan",
    "count",
    "draw_dot",
    "draw_mermaid",
    "missing_data",
    "missing_device",
    "own_code",
    "plan_json",
    "read_plan",
    "save_plan",
    "select_steps",
    "spec_of",
    "statuses",
]
