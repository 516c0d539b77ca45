"""Who is told what happens while a plan runs."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Protocol

from autosparse.execute.outcome import with_skipped
from autosparse.plan import Step
from autosparse.steps import Metrics
from autosparse.text import visible


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
