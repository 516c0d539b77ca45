"""Plans, runs and reports as functions and values; the commands call the same functions."""

from autosparse.api.runs.plan import Plan, plan
from autosparse.api.runs.records import Records
from autosparse.api.runs.report import Report
from autosparse.api.runs.run import run

__all__ = ["Plan", "Records", "Report", "plan", "run"]
