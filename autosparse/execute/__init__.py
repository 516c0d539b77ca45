"""The execution of a plan: artifacts in the store are reused, other steps run in order or in parallel."""

from autosparse.backends import Event, Failed, Finished, Note, Observer, Progress, Started, Waiting
from autosparse.execute.events import Everyone, Log, Tracking
from autosparse.execute.executor import Execution
from autosparse.execute.outcome import Outcome, made_json, with_skipped

__all__ = [
    "Event", "Everyone", "Execution", "Failed", "Finished", "Log", "Note", "Observer", "Outcome", "Progress",
    "Started", "Tracking", "Waiting", "made_json", "with_skipped",
]  # fmt: skip
