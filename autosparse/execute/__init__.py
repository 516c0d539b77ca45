"""Running a plan: what is there is reused, the rest is made, one step after another or several at once."""

from autosparse.execute.events import Everyone, Log, Observer, Tracking
from autosparse.execute.executor import Execution
from autosparse.execute.outcome import Outcome, made_json, with_skipped

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
