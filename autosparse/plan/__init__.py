"""The plan compiler: a spec becomes steps with keys; the store tells which of them are there."""

from autosparse.plan.bench import Bench, Trained, measure_speed
from autosparse.plan.budgets import Between, Translation
from autosparse.plan.cell import Cell
from autosparse.plan.chain import chain, explained
from autosparse.plan.checks import Check
from autosparse.plan.compile import Plan, compile_plan, own_code
from autosparse.plan.counted import Counted
from autosparse.plan.draw import draw_dot, draw_mermaid
from autosparse.plan.fit import fit_plan, fit_steps, remembered_settings
from autosparse.plan.fitted import Fitted, Taken
from autosparse.plan.makespan import urgency
from autosparse.plan.payback import PayBack, paybacks
from autosparse.plan.price import NO_PRICE, Estimate, Price
from autosparse.plan.reasons import Change
from autosparse.plan.saved import SavedPlan, check_unmoved, read_plan, save_plan, spec_of
from autosparse.plan.select import Selection, select_steps
from autosparse.plan.sharing import Shared, remember_use, shared
from autosparse.plan.status import (
    SHARED,
    Status,
    count,
    excess_threads,
    missing_data,
    missing_device,
    missing_libraries,
    statuses,
)
from autosparse.plan.step import PURPOSES, Step
from autosparse.plan.told import plan_json
from autosparse.plan.translate import check_budget, translations
from autosparse.plan.trials import remembered_trials
from autosparse.plan.work import count_work

__all__ = [
    "NO_PRICE",
    "PURPOSES",
    "SHARED",
    "Bench",
    "Between",
    "Cell",
    "Change",
    "Check",
    "Counted",
    "Estimate",
    "Fitted",
    "PayBack",
    "Plan",
    "Price",
    "SavedPlan",
    "Selection",
    "Shared",
    "Status",
    "Step",
    "Taken",
    "Trained",
    "Translation",
    "chain",
    "check_budget",
    "check_unmoved",
    "compile_plan",
    "count",
    "count_work",
    "draw_dot",
    "draw_mermaid",
    "excess_threads",
    "explained",
    "fit_plan",
    "fit_steps",
    "measure_speed",
    "missing_data",
    "missing_device",
    "missing_libraries",
    "own_code",
    "paybacks",
    "plan_json",
    "read_plan",
    "remember_use",
    "remembered_settings",
    "remembered_trials",
    "save_plan",
    "select_steps",
    "shared",
    "spec_of",
    "statuses",
    "translations",
    "urgency",
]
