"""Errors of foreign code in one line."""

from __future__ import annotations

import errno
import signal
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from autosparse.backends import Raised
from autosparse.borders import first_line, in_short
from autosparse.errors import AutosparseError, FitError, InternalError, MissingRequirement, UsageError
from autosparse.execute import workers
from autosparse.foreign_code import printing_to_stderr, unexpected

UNEXPECTED: list[tuple[Exception, type[AutosparseError], str]] = [
    (MemoryError(), FitError, " takes more memory than there is: MemoryError"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory"), FitError, " takes more memory than there is: Runtime"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), FitError, " takes more memory than there is: OSError"),
    (ImportError("failed to map segment"), MissingRequirement, "a library cannot be imported: ImportError: failed to"),
    (OSError(errno.EIO, "Input/output error", "a.bin"), MissingRequirement, "a.bin cannot be written or read: Input"),
    (UnicodeEncodeError("utf-8", "a\udcff", 1, 2, "surrogates"), UsageError, "which is not text"),
    (TypeError("odd"), InternalError, "internal error: TypeError: odd"),
]


@pytest.mark.parametrize("step", ["", "train/a"])
@pytest.mark.parametrize(("error", "kind", "message"), UNEXPECTED)
def test_what_no_code_expects_is_the_machines_or_a_bug(
    error: Exception, kind: type[AutosparseError], message: str, step: str
) -> None:
    """With its step, where it fails one."""
    made = unexpected(error, step)

    assert (kind, step) == (type(made), made.step)
    assert message in made.message
    assert bool(step) == ("step `train/a`" in made.message)


@pytest.mark.parametrize(("error", "kind", "message"), UNEXPECTED)
def test_a_worker_names_an_error_as_the_command_does(
    monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[AutosparseError], message: str
) -> None:
    """In a step, which fails alone, and before the first."""

    def fail(*_: object) -> None:
        raise error

    def served(runner: Any) -> list[Any]:
        sent: list[Any] = []
        names = iter(["train/a", ""])
        monkeypatch.setattr(workers, "_runner", runner)
        workers.serve(SimpleNamespace(send=sent.append, recv=lambda: next(names)), object())  # type: ignore[arg-type]
        return sent

    monkeypatch.setattr(signal, "signal", lambda *_: None)
    runner = SimpleNamespace(run=fail, plan=SimpleNamespace(steps={"train/a": None}))
    in_step, before = served(lambda *_: runner)[0], served(fail)[0]

    assert isinstance(in_step, Raised)
    assert (kind, "train/a") == (type(in_step.error), in_step.error.step)
    assert (kind, "") == (type(before.error), before.error.step)
    assert message in in_step.error.message
    assert message in before.error.message


@pytest.mark.parametrize(
    ("message", "line"),
    [("\x1b[96mstep 3\x1b[0m failed\nmore", "step 3 failed"), ("\n  plain  \n", "plain"), ("", "")],
)
def test_the_first_line_has_no_colours(message: str, line: str) -> None:
    """Exporters of torch write escape sequences for a terminal."""
    assert line == first_line(ValueError(message))


def test_an_error_without_a_message_has_its_type() -> None:
    """The type comes first in any case."""
    errors = KeyError(), ValueError("odd"), SystemExit(), SystemExit(2)

    assert ["KeyError", "ValueError: odd", "SystemExit", "SystemExit: 2"] == [*map(in_short, errors)]


def test_output_of_foreign_code_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Code that closes its stdout closes neither of the program's streams."""
    with printing_to_stderr():
        sys.stdout.write("theirs\n")
        sys.stdout.close()
    sys.stdout.write("ours\n")

    assert ("ours\n", "theirs\n") == tuple(capsys.readouterr())
