"""Execution of a plan: what its steps are said to have taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from autosparse.backends import Place
from autosparse.errors import DamagedArtifact
from autosparse.execute import Execution
from autosparse.plan import Step
from autosparse.steps import Metrics
from autosparse.store import Artifact, Store
from tests.plans import DIGITS, compiled, finish


class Told:
    """An observer that keeps the seconds of finished steps."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def started(self, step: Step, where: str = "") -> None: ...
    def progress(self, step: Step, done: int, total: int, loss: float | None) -> None: ...
    def failed(self, step: Step, message: str, skipped: Collection[str]) -> None: ...
    def waiting(self, step: Step) -> None: ...
    def note(self, text: str) -> None: ...

    def finished(self, step: Step, status: str, seconds: float, metrics: Metrics) -> None:
        self.seconds[step.name] = seconds


def test_making_an_input_again_is_not_time_of_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that finds its input damaged begins anew when that has been made again."""
    plan, told, tried = compiled(DIGITS, "target.threads=1"), Told(), []

    def perform(self: Any, step: Step, place: Place, replace: bool) -> Artifact:
        tried.append(step.name)
        if len(tried) == 1:
            raise DamagedArtifact("key", "it is damaged")
        return Artifact(tmp_path, step.key, {"files": {}})

    rebuild: Callable[[Any, DamagedArtifact], None] = lambda self, damage: time.sleep(0.5)  # noqa: E731
    monkeypatch.setattr(Execution, "_perform", perform)
    monkeypatch.setattr(Execution, "_rebuild", rebuild)
    step = plan.steps["tune"]
    Execution(plan, Store(tmp_path), told, place=Place("cpu", 1))._make_locked(step)

    assert ["tune", "tune"] == tried
    assert told.seconds["tune"] < 0.5


def test_what_a_run_goes_on_from_tells_its_metrics(tmp_path: Path) -> None:
    """Earlier rounds of an IRP, so that its curve is whole; nothing else that is reused is read."""
    plan, store = compiled(DIGITS), Store(tmp_path)
    finish(plan, store, but=("irp/seed100/round3",))
    execution = Execution(plan, store, Told(), place=Place("cpu", 1))

    assert {"irp/seed100/round1", "irp/seed100/round2"} == execution._before([plan.steps["irp/seed100/round3"]])
