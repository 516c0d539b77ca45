"""What follows a run on stderr: a tree on a terminal, one line a step elsewhere, nothing where it is to be quiet."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from autosparse.console.live import Tree
from autosparse.console.remaining import Remaining
from autosparse.console.screen import notes, plain, seconds
from autosparse.execute import with_skipped
from autosparse.plan import Fitted, Step
from autosparse.steps import Metrics

_STILL = 30.0  # seconds after which a step says that it lives


class Quiet:
    """Tells nothing."""

    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *_: object) -> None: ...
    def started(self, step: Step, where: str = "") -> None: ...
    def progress(self, step: Step, done: int, total: int, loss: float | None) -> None: ...
    def finished(self, step: Step, status: str, seconds: float, metrics: Metrics) -> None: ...
    def failed(self, step: Step, message: str, skipped: Collection[str]) -> None: ...
    def waiting(self, step: Step) -> None: ...
    def note(self, text: str) -> None: ...


class Lines(Quiet):
    """A plain line a step, for files, pipes and CI."""

    def __init__(self, fitted: Fitted) -> None:
        self._console = notes()
        self._remaining = Remaining(fitted)
        self._number = 0
        self._told: dict[str, float] = {}

    def started(self, step: Step, where: str = "") -> None:
        self._told[step.name] = time.monotonic()

    def progress(self, step: Step, done: int, total: int, loss: float | None) -> None:
        self._remaining.done(step, done / total)
        if time.monotonic() - self._told[step.name] > _STILL:
            self._told[step.name] = time.monotonic()
            self._line(f"{step.name}  {done} of {total}")

    def finished(self, step: Step, status: str, seconds_taken: float, metrics: Metrics) -> None:
        if status != "reuse":
            self._remaining.done(step)
            self._number += 1
            total = max(self._number, len(self._remaining.names))  # what is damaged is run besides
            self._line(f"[{self._number}/{total}] {step.name}  {seconds(seconds_taken)}")

    def failed(self, step: Step, message: str, skipped: Collection[str]) -> None:
        self._remaining.leave_out([step.name, *skipped])
        self.note(with_skipped(message, len(skipped)))

    def waiting(self, step: Step) -> None:
        self.note(f"another process is making `{step.name}`; waiting for it")

    def note(self, text: str) -> None:
        self._console.print(plain(f"note: {text}"), soft_wrap=True)

    def _line(self, text: str) -> None:
        now = time.strftime("%H:%M:%S")
        self._console.print(plain(f"{now} {text}  {self._remaining.text}"), soft_wrap=True)


def follow(fitted: Fitted, *, quiet: bool) -> Any:
    """The observer that fits where stderr goes; a context manager."""
    console = notes()
    if quiet:
        return Quiet()
    return Tree(fitted, console) if console.is_terminal else Lines(fitted)
