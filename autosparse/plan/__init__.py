"""The plan compiler: a spec becomes steps with keys; the store tells which of them are there."""

from autosparse.plan.budgets import Between, Translation, check_budget, translations
from autosparse.plan.compile import compile_plan, named_user_code
from autosparse.plan.graph import draw_dot, draw_mermaid, urgency
from autosparse.plan.model import PURPOSES, Cell, Check, Plan, Step
from autosparse.plan.reasons import Change
from autosparse.plan.saved import check_unmoved, read_plan, save_plan, spec_of
from autosparse.plan.status import (
    SHARED,
    Selection,
    Status,
    chain,
    count,
    excess_threads,
    explained,
    missing_data,
    missing_device,
    missing_libraries,
    select_steps,
    statuses,
)

__all__ = [
    "PURPOSES", "SHARED", "Between", "Cell", "Change", "Check", "Plan", "Selection", "Status", "Step",
    "Translation", "chain", "check_budget", "check_unmoved", "compile_plan", "count", "draw_dot", "draw_mermaid",
    "excess_threads", "explained", "missing_data", "missing_device", "missing_libraries", "named_user_code",
    "read_plan", "save_plan", "select_steps", "spec_of", "statuses", "translations", "urgency",
]  # fmt: skip
