"""Signals: Ctrl-C and SIGTERM end a command with a sentence, and with exit code 130 or 143."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from autosparse.cli.app import say


class Terminated(BaseException):
    """SIGTERM arrived."""


def terminate(number: int, frame: FrameType | None) -> None:
    """Handle SIGTERM: stop as Ctrl-C does, with another exit code."""
    raise Terminated


@dataclass
class Interruption:
    """An interruption that may come; `text` gives the sentence that it ends the command with."""

    text: Callable[[], str] = lambda: "stopped before anything ran"


@contextmanager
def exit_on_interrupt(*, quiet: bool) -> Iterator[Interruption]:
    """Exit with code 130 on Ctrl-C and 143 on SIGTERM, after printing the interruption's text."""
    interruption = Interruption()
    try:
        yield interruption
    except (KeyboardInterrupt, Terminated) as reason:
        if not quiet:
            say(interruption.text())
        raise SystemExit(130 if isinstance(reason, KeyboardInterrupt) else 143) from None
