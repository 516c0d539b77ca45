"""A run as it goes, on stderr: bars on a terminal, one line a step elsewhere."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from autosparse.console.screen import notes, plain, seconds
from autosparse.plan import Fitted, Step


class Quiet:
    """Tells nothing."""

    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *_: object) -> None: ...
    def started(self, step: Step) -> None: ...
    def progress(self, step: Step, done: int, total: int) -> None: ...
    def finished(self, step: Step, status: str, seconds: float) -> None: ...
    def note(self, text: str) -> None: ...


class _Remaining:
    """The time left: what the plan priced, corrected by how long what is done took."""

    def __init__(self, fitted: Fitted) -> None:
        self.names = fitted.to_run
        known = [fitted.price.steps[name].seconds for name in self.names if name in fitted.price.steps]
        self._priced = len(known) == len(self.names)
        usual = max(0.01, sum(known) / len(known)) if known else 1.0
        self._seconds = {
            name: fitted.price.steps[name].seconds if name in fitted.price.steps else usual for name in self.names
        }
        self._left = dict(self._seconds)
        self._all = sum(self._left.values())
        self._begin = time.monotonic()

    def done(self, step: Step, share: float = 1.0) -> None:
        self._left[step.name] = self._seconds.get(step.name, 0.0) * (1 - share)

    @property
    def share(self) -> float:
        return 1 - sum(self._left.values()) / self._all if self._all else 1.0

    @property
    def text(self) -> str:
        left = sum(self._left.values())
        done = self._all - left
        elapsed = time.monotonic() - self._begin
        if done > max(5.0, 0.02 * self._all) or (done and not self._priced):
            left *= elapsed / done
        elif not self._priced:
            return "time left not known yet"
        return f"about {seconds(left)} left"


class Lines(Quiet):
    """A plain line a step, for files, pipes and CI."""

    def __init__(self, fitted: Fitted) -> None:
        self._console = notes()
        self._remaining = _Remaining(fitted)
        self._number = 0
        self._told: dict[str, float] = {}

    def started(self, step: Step) -> None:
        self._told[step.name] = time.monotonic()

    def progress(self, step: Step, done: int, total: int) -> None:
        self._remaining.done(step, done / total)
        if time.monotonic() - self._told[step.name] > 30:  # a long step says that it lives
            self._told[step.name] = time.monotonic()
            self._line(f"{step.name}  {done} of {total}")

    def finished(self, step: Step, status: str, seconds_taken: float) -> None:
        if status != "reuse":
            self._remaining.done(step)
            self._number += 1
            total = max(self._number, len(self._remaining.names))  # what is damaged is run besides
            self._line(f"[{self._number}/{total}] {step.name}  {seconds(seconds_taken)}")

    def note(self, text: str) -> None:
        self._console.print(plain(f"note: {text}"), soft_wrap=True)

    def _line(self, text: str) -> None:
        self._console.print(plain(f"{text}  {self._remaining.text}"), soft_wrap=True)


class Bars(Quiet):
    """A bar for the whole run, and one for each step at hand."""

    def __init__(self, fitted: Fitted, console: Console) -> None:
        self._remaining = _Remaining(fitted)
        self._finished = 0
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[detail]}", markup=False),
            console=console,
            transient=True,
            refresh_per_second=4,
        )
        self._run: TaskID = self._progress.add_task("run", total=1.0, detail="")
        self._steps: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def started(self, step: Step) -> None:
        self._steps[step.name] = self._progress.add_task(step.name, total=1.0, detail="")
        self._tell()

    def progress(self, step: Step, done: int, total: int) -> None:
        self._remaining.done(step, done / total)
        self._progress.update(self._steps[step.name], completed=done / total, detail=f"{done} of {total}")
        self._tell()

    def finished(self, step: Step, status: str, seconds_taken: float) -> None:
        if step.name in self._steps:
            self._progress.remove_task(self._steps.pop(step.name))
        if status != "reuse":
            self._remaining.done(step)
            self._finished += 1
            self._tell()

    def note(self, text: str) -> None:
        self._progress.console.print(plain(f"note: {text}"), soft_wrap=True)

    def _tell(self) -> None:
        detail = f"{self._finished} of {len(self._remaining.names)} steps, {self._remaining.text}"
        self._progress.update(self._run, completed=self._remaining.share, detail=detail)


def follow(fitted: Fitted, *, quiet: bool) -> Any:
    """The observer that fits where stderr goes; a context manager."""
    console = notes()
    if quiet:
        return Quiet()
    return Bars(fitted, console) if console.is_terminal else Lines(fitted)
