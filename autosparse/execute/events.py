"""Observers of a running plan, experiment trackers among them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from operator import methodcaller
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from autosparse.execute.outcome import with_skipped
from autosparse.plan import Step
from autosparse.steps import Metrics
from autosparse.text import visible
from autosparse.trackers import Followed, Tracker, trackers


class Observer(Protocol):
    """Is told what happens while a plan runs; `finished` also what is reused, with metrics if what is made goes on.

    `where` is the machine that a step runs on, where that may be another one. `failed` lists the steps that are
    `skipped` because they depend on the failed one.
    """

    def started(self, step: Step, where: str = "") -> None: ...
    def progress(self, step: Step, done: int, total: int, loss: float | None) -> None: ...
    def finished(self, step: Step, status: str, seconds: float, metrics: Metrics) -> None: ...
    def failed(self, step: Step, message: str, skipped: Collection[str]) -> None: ...
    def waiting(self, step: Step) -> None: ...
    def note(self, text: str) -> None: ...


class Log:
    """An observer that appends to a file what happens, a line each, with the time; a context manager.

    A file that can no longer be written (a full disk) is given up: it is not what a run is for.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Log:
        self._write("run begins")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write("run ends" if kind is None else f"run ends by {kind.__name__}: {error}")

    def started(self, step: Step, where: str = "") -> None:
        self._write(f"{step.name} begins{f' on {where}' if where else ''}")

    def progress(self, step: Step, done: int, total: int, loss: float | None) -> None: ...

    def finished(self, step: Step, status: str, seconds: float, metrics: Metrics) -> None:
        if status != "reuse":
            told = [f"{name} {value:.6g}" for name, value in metrics.items() if isinstance(value, int | float)]
            self._write(", ".join([f"{step.name} ends after {seconds:.2f} s", *told]))

    def failed(self, step: Step, message: str, skipped: Collection[str]) -> None:
        self._write(f"{step.name} fails: {with_skipped(message, len(skipped))}")

    def waiting(self, step: Step) -> None:
        self._write(f"{step.name} is made by another process")

    def note(self, text: str) -> None:
        self._write(text)

    def _write(self, text: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{now} {visible(' '.join(text.split()))}\n")
        except OSError:
            self._write = lambda text: None  # type: ignore[method-assign]


class Everyone:
    """An observer that tells several."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def started(self, step: Step, where: str = "") -> None:
        for observer in self._observers:
            observer.started(step, where)

    def progress(self, step: Step, done: int, total: int, loss: float | None) -> None:
        for observer in self._observers:
            observer.progress(step, done, total, loss)

    def finished(self, step: Step, status: str, seconds: float, metrics: Metrics) -> None:
        for observer in self._observers:
            observer.finished(step, status, seconds, metrics)

    def failed(self, step: Step, message: str, skipped: Collection[str]) -> None:
        for observer in self._observers:
            observer.failed(step, message, skipped)

    def waiting(self, step: Step) -> None:
        for observer in self._observers:
            observer.waiting(step)

    def note(self, text: str) -> None:
        for observer in self._observers:
            observer.note(text)


_NUMBERED = re.compile(r"(.*?)[/]?([a-z]*)(\d+)")  # a round, a trial, a seed


class Tracking:
    """An observer that tells trackers; a context manager. `note` is told of those that are given up."""

    def __init__(
        self, choices: Iterable[tuple[str, Mapping[str, Any]]], followed: Followed, note: Callable[[str], None]
    ) -> None:
        self._choices, self._followed, self._note = list(choices), followed, note
        self._open: list[tuple[str, Tracker]] = []
        self._is_whole = True

    def __enter__(self) -> Tracking:
        for name, options in self._choices:
            try:
                self._open.append((name, trackers[name].function(self._followed, **options)))
            except Exception as error:  # whatever another program does is no reason to stop a run
                self._gave_up(name, error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._each(lambda tracker: tracker.close(finished=kind is None and self._is_whole))

    def started(self, step: Step, where: str = "") -> None: ...
    def progress(self, step: Step, done: int, total: int, loss: float | None) -> None: ...
    def waiting(self, step: Step) -> None: ...
    def note(self, text: str) -> None: ...

    def failed(self, step: Step, message: str, skipped: Collection[str]) -> None:
        self._is_whole = False

    def finished(self, step: Step, status: str, seconds: float, metrics: Metrics) -> None:
        if status != "reuse":
            self.tell(step, metrics)

    def tell(self, step: Step, metrics: Metrics) -> None:
        """What a step measured, in this run or in another that it is reused from."""
        for name, value in metrics.items():
            if isinstance(value, Sequence):
                self._tell(f"{step.name}/{name}", value)
            else:
                place, number = _placed(step.name)
                self._tell(f"{place}/{name}", [value], number)

    def _tell(self, name: str, values: Sequence[float], first: int = 0) -> None:
        for number, value in enumerate(values, start=first):
            self._each(methodcaller("log", name, value, number))

    def _each(self, tell: Callable[[Tracker], None]) -> None:
        for one in [*self._open]:
            name, tracker = one
            try:
                tell(tracker)
            except Exception as error:
                self._open.remove(one)
                self._gave_up(name, error)

    def _gave_up(self, name: str, error: Exception) -> None:
        missing = isinstance(error, ModuleNotFoundError)
        hint = "; `pip install 'autosparse[track]'` installs it" if missing else ""
        first = next(iter(str(error).splitlines()), "")
        self._note(f"tracker `{name}` is given up: {type(error).__name__}: {first}{hint}")


def _placed(name: str) -> tuple[str, int]:
    # `irp/seed100/round3` is the third of `irp/seed100/round`, a network at a seed one of its seeds.
    found = _NUMBERED.fullmatch(name)
    if not found or "/" not in name:
        return name, 0
    place, what, number = found.groups()
    return f"{place}/{what}".rstrip("/"), int(number)
