"""The last guard of the command line: any exception is one line with its remedy, and an exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

import autosparse.cli
from autosparse.errors import Terminated
from tests.conftest import Workspace, call


def raising(error: BaseException) -> Any:
    """Return an application that raises an error."""

    def app(**_: Any) -> None:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (TypeError("odd\nmore"), 70, "error: internal error: TypeError: odd in "),
        (RecursionError("maximum"), 70, "error: internal error: RecursionError: maximum in "),
        (GeneratorExit(), 70, "error: internal error: GeneratorExit in "),
        (MemoryError(), 3, "error: the command takes more memory than there is: MemoryError"),
        (ImportError("libtorch.so: failed to map segment"), 5, "error: a library cannot be imported: ImportError: lib"),
        (UnicodeEncodeError("utf-8", "a\udcff", 1, 2, "surrogates"), 2, r"error: a name holds '\udcff', which is not"),
        (OSError(28, "No space left on device"), 5, "error: the output cannot be written or read: No space left"),
        (OSError("odd"), 5, "error: the output cannot be written or read: OSError: odd"),
        (BrokenPipeError(), 1, ""),
        (KeyboardInterrupt(), 130, "stopped"),
        (Terminated(), 143, ""),
        (SystemExit(7), 7, ""),
        (SystemExit(), 0, ""),
        (SystemExit("a library gives up"), 1, "a library gives up"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_any_exception_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, message: str
) -> None:
    """With a hint on the next one, and without a traceback."""
    monkeypatch.setattr(autosparse.cli, "app", raising(error))
    monkeypatch.setattr(autosparse.cli, "_discard_output", lambda: None)
    ended = call(capsys, "list")
    first, *others = ended.err.splitlines() or [""]

    assert code == ended.code
    assert first.startswith(message)
    assert len(others) <= 1
    assert bool(message) == bool(first)


def test_a_bug_is_to_be_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The hint names the output to add; `--debug` shows the traceback as well."""
    monkeypatch.setattr(autosparse.cli, "app", raising(KeyError("lost")))
    plain, debug = call(capsys, "list"), call(capsys, "--debug list")

    assert "report it with the output of `autosparse doctor`" in plain.err
    assert "Traceback" not in plain.err
    assert "Traceback" in debug.err
    assert (70, 70) == (plain.code, debug.code)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_that_a_library_replaces_is_a_stop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals, code: int
) -> None:
    """As pydantic does, which raises a SchemaError where Ctrl-C interrupts the building of a model."""

    def app(**_: Any) -> None:
        try:
            signal.raise_signal(number)
        except BaseException:
            raise ValueError("cannot build") from None

    monkeypatch.setattr(autosparse.cli, "app", app)
    ended = call(capsys, "list")

    assert code == ended.code
    assert "cannot build" not in ended.err


def test_a_closed_pipe_ends_quietly(here: Workspace) -> None:
    """As in `autosparse list criteria | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "autosparse", "list", "criteria"],
        cwd=here.folder, env=here.environment, stdout=writer, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(writer)

    assert (1, "") == (ended.returncode, ended.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.05, 0.1, 0.2, 0.3, 0.5, 0.8])
def test_an_interrupt_ends_any_import(here: Workspace, delay: float) -> None:
    """Without a line, whatever the library makes of the exception."""
    script = "print('begun', flush=True); from autosparse.__main__ import main; main()"
    command = [sys.executable, "-c", script, "validate", "small.yaml", *["small.yaml"] * 500]
    process = subprocess.Popen(
        command, cwd=here.folder, env=here.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()

    assert (130, "") == (process.returncode, err.replace("stopped\n", ""))
