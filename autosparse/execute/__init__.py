"""Running a plan: what is there is reused, the rest is made, one step after another or several at once."""

from autosparse.execute.execution import Execution, Observer, Outcome, made_json

__all__ = ["Execution", "Observer", "Outcome", "made_json"]
