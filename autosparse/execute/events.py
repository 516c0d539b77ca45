"""Observers of a running plan: one method receives every event; experiment trackers are among them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from operator import methodcaller
from pathlib import Path
from typing import Any

from autosparse.backends import Event, Failed, Finished, Note, Observer, Started, Waiting
from autosparse.borders import in_short
from autosparse.execute.outcome import with_skipped
from autosparse.steps import Metrics
from autosparse.text import visible
from autosparse.trackers import Followed, Tracker, trackers


class Everyone:
    """An observer that passes every event to several observers."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def on_event(self, event: Event) -> None:
        """Pass an event to each of them, in order."""
        for observer in self._observers:
            observer.on_event(event)


class Log:
    """An observer that appends a line with the time to a file for each event; a context manager.

    A file that cannot be written, such as on a full disk, is ignored from then on: a run does not fail because of it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_writable = True

    def __enter__(self) -> Log:
        self._write("run starts")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        self._write("run finished" if kind is None else f"run stopped by {kind.__name__}: {error}")

    def on_event(self, event: Event) -> None:
        """Write an event, unless it is progress or a cache hit."""
        match event:
            case Started(step, machine):
                self._write(f"{step} starts{f' on {machine}' if machine else ''}")
            case Finished(step, status, seconds, metrics) if status != "reuse":
                numbers = [f"{name} {value:.6g}" for name, value in metrics.items() if isinstance(value, int | float)]
                self._write(", ".join([f"{step} finished after {seconds:.2f} s", *numbers]))
            case Failed(step, message, skipped):
                self._write(f"{step} fails: {with_skipped(message, len(skipped))}")
            case Waiting(step):
                self._write(f"{step} runs in another process")
            case Note(text):
                self._write(text)

    def _write(self, text: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        try:
            if self._is_writable:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(f"{now} {visible(' '.join(text.split()))}\n")
        except OSError:
            self._is_writable = False


_NUMBERED = re.compile(r"(.*?)[/]?([a-z]*)(\d+)")  # a round, a trial, a seed


class Tracking:
    """An observer that logs the metrics of steps to trackers; a context manager.

    A tracker that fails is disabled, with a sentence for `note`.
    """

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
            except (Exception, SystemExit) as error:  # another program's error is no reason to stop a run
                self._disable(name, error)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._each(methodcaller("close", kind is None and self._is_whole))

    def on_event(self, event: Event) -> None:
        """Log the metrics of a finished step; cache hits are logged by `log`, once the run is over."""
        match event:
            case Failed():
                self._is_whole = False
            case Finished(step, status, _, metrics) if status != "reuse":
                self.log(step, metrics)

    def log(self, step: str, metrics: Metrics) -> None:
        """Log the metrics of a step, made by this run or an earlier one."""
        curve, number = _curve_of(step)
        for name, value in metrics.items():
            if isinstance(value, Sequence):
                for epoch, one in enumerate(value):
                    self._each(methodcaller("log", f"{step}/{name}", one, epoch))
            else:
                self._each(methodcaller("log", f"{curve}/{name}", value, number))

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for one in [*self._open]:
            name, tracker = one
            try:
                call(tracker)
            except (Exception, SystemExit) as error:
                self._open.remove(one)
                self._disable(name, error)

    def _disable(self, name: str, error: BaseException) -> None:
        missing = isinstance(error, ModuleNotFoundError)
        hint = "; `pip install 'autosparse[track]'` installs it" if missing else ""
        self._note(f"tracker `{name}` is disabled: {in_short(error)}{hint}")


def _curve_of(name: str) -> tuple[str, int]:
    # `irp/seed100/round3` is value 3 of `irp/seed100/round`; a network at a seed is one of its seeds.
    numbered = _NUMBERED.fullmatch(name)
    if not numbered or "/" not in name:
        return name, 0
    above, kind, number = numbered.groups()
    return f"{above}/{kind}".rstrip("/"), int(number)
