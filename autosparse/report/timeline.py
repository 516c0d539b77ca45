"""When the steps of a plan were made: one after another or side by side, over all the runs that took part."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from autosparse.report.finished import Finished


@dataclass(frozen=True)
class Made:
    """A step and when it was made: seconds since the first of its plan, without those in which none was made."""

    step: str
    purpose: str
    begin: float
    seconds: float


def describe_timeline(finished: Finished) -> list[Made]:
    """The steps in the order in which they were begun. Artifacts that do not say when they were made are left out."""
    found = []
    for step in finished.steps():
        about = finished.open(step.name).descriptor
        try:
            end = datetime.fromisoformat(about["created"]).timestamp()
            found.append((end - about["seconds"], about["seconds"], step))
        except (KeyError, TypeError, ValueError):
            continue
    found.sort(key=lambda item: (item[0], item[2].name))
    made, busy, until = [], 0.0, 0.0  # `busy`: seconds in which something was made, up to `until`
    for begin, seconds, step in found:
        shown = busy - max(0.0, until - begin)
        made.append(Made(step.name, step.purpose, round(shown, 3), round(seconds, 3)))
        busy += max(0.0, begin + seconds - max(begin, until))
        until = max(until, begin + seconds)
    return made
