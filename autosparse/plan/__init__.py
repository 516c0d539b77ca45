"""The plan compiler: a spec becomes steps with keys; the store tells which of them are there."""

from autosparse.plan.budgets import Between, Translation
from autosparse.plan.chain import chain, explained
from autosparse.plan.compile import Cell, Plan, compile_plan, own_code
from autosparse.plan.fit import Fitted, Taken, fit_plan
from autosparse.plan.price import Estimate, Price
from autosparse.plan.reasons import Change
from autosparse.plan.sharing import Shared, remember_use, shared
from autosparse.plan.status import Status, count, missing_data, missing_device, statuses
from autosparse.plan.step import Step
from autosparse.plan.told import plan_json
from autosparse.plan.translate import check_budget, translations
from autosparse.plan.work import Counted, count_work

__all__ = [
    "Between",
    "Cell",
    "Change",
    "Counted",
    "Estimate",
    "Fitted",
    "Plan",
    "Price",
    "Shared",
    "Status",
    "Step",
    "Taken",
    "Translation",
    "chain",
    "check_budget",
    "compile_plan",
    "count",
    "count_work",
    "explained",
    "fit_plan",
    "missing_data",
    "missing_device",
    "own_code",
    "plan_json",
    "remember_use",
    "shared",
    "statuses",
    "translations",
]
