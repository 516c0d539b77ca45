"""Running a plan: what is there is reused, the rest is made, one step after another or several at once."""

from autosparse.execute.execution import Execution
from autosparse.execute.observer import Everyone, Log, Observer
from autosparse.execute.outcome import Outcome, made_json, with_skipped
from autosparse.execute.tracking import Tracking

__all__ = [
    "Everyone",
    "Execution",
    "Log",
    "Observer",
    "Outcome",
    "Tracking",
    "made_json",
    "with_skipped",
]
