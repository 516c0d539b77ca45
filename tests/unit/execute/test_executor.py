"""Execution of a plan: what its steps are said to have taken."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autosparse.backends import Placement, local
from autosparse.errors import DamagedArtifact, MissingRequirement, StepError
from autosparse.execute import Event, Finished
from autosparse.execute.executor import continued_by
from autosparse.execute.outcome import failures_of
from autosparse.execute.step_runner import StepRunner
from autosparse.planning.model import Step
from autosparse.store import Artifact, Store
from tests.plans import DIGITS, compiled


class Recorder:
    """An observer that keeps the seconds of finished steps."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def on_event(self, event: Event) -> None:
        if isinstance(event, Finished):
            self.seconds[event.step] = event.seconds


def test_making_an_input_again_is_not_time_of_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step with a damaged input restarts when the input has been rebuilt."""
    plan, events, tried = compiled(DIGITS, "target.threads=1"), Recorder(), []

    def publish(self: Any, step: Step, *_: object) -> Artifact:
        tried.append(step.name)
        if len(tried) == 1:
            raise DamagedArtifact("key", "it is damaged")
        return Artifact(tmp_path, step.key, {"files": {}})

    rebuild: Callable[[Any, DamagedArtifact], None] = lambda self, damage: time.sleep(0.5)  # noqa: E731
    monkeypatch.setattr(StepRunner, "_publish", publish)
    monkeypatch.setattr(StepRunner, "rebuild", rebuild)
    StepRunner(plan, Store(tmp_path), events, local(Placement("cpu", 1))).run(plan.steps["tune"])

    assert ["tune", "tune"] == tried
    assert events.seconds["tune"] < 0.5


def test_what_a_run_goes_on_from_tells_its_metrics() -> None:
    """Earlier rounds of an IRP, so that its curve is whole; nothing else that is reused is read."""
    plan = compiled(DIGITS)

    assert {"irp/seed100/round1", "irp/seed100/round2"} == continued_by(plan, [plan.steps["irp/seed100/round3"]])


@pytest.mark.parametrize(
    ("code", "kind", "hint"),
    [
        (errno.ENOSPC, MissingRequirement, "cache gc"),
        (errno.EDQUOT, MissingRequirement, "the same command then resumes"),
        (errno.EACCES, StepError, "is kept"),
    ],
)
def test_a_full_disk_stops_the_run_and_not_only_its_step(code: int, kind: type[Exception], hint: str) -> None:
    """One sentence, as every other step would fail alike; other errors of files fail their step alone."""
    step = compiled(DIGITS).steps["tune"]

    with pytest.raises(kind, match=os.strerror(code)) as caught, failures_of(step):
        raise OSError(code, os.strerror(code), "model.onnx")
    assert isinstance(caught.value, MissingRequirement | StepError)
    assert hint in (caught.value.hint or "")
    assert (caught.value.step == step.name) == (kind is StepError)
