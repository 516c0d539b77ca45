"""What the work of a plan is worth: counted, priced, fitted to its target."""

from autosparse.cost.bench import Bench, Trained, measure_speed
from autosparse.cost.fit import fit_plan, fit_steps
from autosparse.cost.fitted import Fitted, PayBack, Shared, paybacks, plan_json, remember_use, shared
from autosparse.cost.price import NO_PRICE, Calibration, Estimate, Price
from autosparse.cost.time_limit import remembered_settings, remembered_trials
from autosparse.cost.work import Work, count_work

__all__ = [
    "NO_PRICE", "Bench", "Calibration", "Estimate", "Fitted", "PayBack", "Price", "Shared", "Trained", "Work",
    "count_work", "fit_plan", "fit_steps", "measure_speed", "paybacks", "plan_json", "remember_use",
    "remembered_settings", "remembered_trials", "shared",
]  # fmt: skip
