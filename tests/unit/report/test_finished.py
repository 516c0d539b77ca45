"""When steps were made: side by side, after another, with pauses left out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from autosparse.plan.model import Plan
from autosparse.report.finished import Finished, describe_timeline
from autosparse.store import Store


def printed(*steps: tuple[str, str, float]) -> list[tuple[str, float, float]]:
    """The timeline of steps of these names, ends and seconds."""
    plan = SimpleNamespace(
        steps={name: SimpleNamespace(name=name, operation="train", key=name, purpose="target") for name, *_ in steps}
    )
    store = Store(Path("nowhere"))
    made = {name: {"created": created, "seconds": seconds} for name, created, seconds in steps}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "open", lambda _, key: SimpleNamespace(descriptor=made[key]))
        finished = Finished(cast(Plan, cast(Any, plan)), store)
        return [(item.step, item.begin, item.seconds) for item in describe_timeline(finished)]


def test_pauses_between_runs_are_left_out() -> None:
    """A step of the next day begins where the last of the day before ended."""
    days = [("a", "2026-01-01T10:00:10.000+00:00", 10.0), ("b", "2026-01-02T09:00:05.500+00:00", 5.0)]

    assert [("a", 0.0, 10.0), ("b", 10.0, 5.0)] == printed(*days)


def test_steps_side_by_side_overlap() -> None:
    """One that began while another was made begins within it, whichever ended first."""
    result = printed(
        ("long", "2026-01-01T10:00:10.000+00:00", 10.0),
        ("short", "2026-01-01T10:00:05.000+00:00", 2.0),
        ("next", "2026-01-01T10:00:12.000+00:00", 3.0),
    )

    assert [("long", 0.0, 10.0), ("short", 3.0, 2.0), ("next", 9.0, 3.0)] == result


def test_steps_that_do_not_say_when_are_left_out() -> None:
    """Artifacts that came with the package, or of other programs."""
    assert [("a", 0.0, 1.0)] == printed(("a", "2026-01-01T10:00:10.000+00:00", 1.0), ("b", "", 1.0))
