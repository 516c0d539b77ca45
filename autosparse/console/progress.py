"""A run as it goes, on stderr: bars on a terminal, one line a step elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from autosparse.console.screen import notes, plain, seconds
from autosparse.plan import Plan, Status, Step


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
    """The time left, from the effort that is done: training images count, small steps hardly."""

    def __init__(self, plan: Plan, found: Mapping[str, Status]) -> None:
        self.names = [name for name, status in found.items() if status.status != "reuse"]
        self._left = {name: plan.steps[name].effort for name in self.names}
        self._all = sum(self._left.values())
        self._begin = time.monotonic()

    def done(self, step: Step, share: float = 1.0) -> None:
        self._left[step.name] = step.effort * (1 - share)

    @property
    def share(self) -> float:
        return 1 - sum(self._left.values()) / self._all if self._all else 1.0

    @property
    def text(self) -> str:
        if self.share < 0.02:
            return "time left not known yet"
        elapsed = time.monotonic() - self._begin
        return f"about {seconds(elapsed / self.share * (1 - self.share))} left"


class Lines(Quiet):
    """A plain line a step, for files, pipes and CI."""

    def __init__(self, plan: Plan, found: Mapping[str, Status]) -> None:
        self._console = notes()
        self._remaining = _Remaining(plan, found)
        self._number = 0
        self._told = 0.0

    def started(self, step: Step) -> None:
        self._told = time.monotonic()

    def progress(self, step: Step, done: int, total: int) -> None:
        self._remaining.done(step, done / total)
        if time.monotonic() - self._told > 30:  # a long step says that it lives
            self._told = time.monotonic()
            self._line(f"{step.name}  {done} of {total}")

    def finished(self, step: Step, status: str, seconds_taken: float) -> None:
        if status == "run":
            self._remaining.done(step)
            self._number += 1
            total = max(self._number, len(self._remaining.names))  # what is damaged is run besides
            self._line(f"[{self._number}/{total}] {step.name}  {seconds(seconds_taken)}")

    def note(self, text: str) -> None:
        self._console.print(plain(f"note: {text}"), soft_wrap=True)

    def _line(self, text: str) -> None:
        self._console.print(plain(f"{text}  {self._remaining.text}"), soft_wrap=True)


class Bars(Quiet):
    """Two bars: the whole run and the step at hand."""

    def __init__(self, plan: Plan, found: Mapping[str, Status], console: Console) -> None:
        self._remaining = _Remaining(plan, found)
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
        self._step: TaskID = self._progress.add_task("", total=1.0, detail="")

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def started(self, step: Step) -> None:
        self._progress.update(self._step, description=step.name, completed=0.0, detail="")
        self._tell()

    def progress(self, step: Step, done: int, total: int) -> None:
        self._remaining.done(step, done / total)
        self._progress.update(self._step, completed=done / total, detail=f"{done} of {total}")
        self._tell()

    def finished(self, step: Step, status: str, seconds_taken: float) -> None:
        if status == "run":
            self._remaining.done(step)
            self._finished += 1
            self._tell()

    def note(self, text: str) -> None:
        self._progress.console.print(plain(f"note: {text}"), soft_wrap=True)

    def _tell(self) -> None:
        detail = f"{self._finished} of {len(self._remaining.names)} steps, {self._remaining.text}"
        self._progress.update(self._run, completed=self._remaining.share, detail=detail)


def follow(plan: Plan, found: Mapping[str, Status], *, quiet: bool) -> Any:
    """The observer that fits where stderr goes; a context manager."""
    console = notes()
    if quiet:
        return Quiet()
    return Bars(plan, found, console) if console.is_terminal else Lines(plan, found)
