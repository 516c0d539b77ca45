"""Borders: whatever is raised inside becomes one error of autosparse, in one line."""

from __future__ import annotations

import builtins
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autosparse.borders import border, expand, in_short, is_out_of_memory, optional, refusal
from autosparse.errors import (
    FitError,
    InternalError,
    MissingExtra,
    OwnCodeError,
    StepError,
    Terminated,
    UsageError,
)
from autosparse.execute.outcome import failures_of
from autosparse.foreign_code import foreign_code
from autosparse.packaged import shipped
from autosparse.text import size
from autosparse.user_code import content_of
from tests.plans import compiled


class OddError(BaseException):
    """An error that cannot be printed."""

    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    "error", [TypeError(), SystemExit(0), GeneratorExit(), OddError(), StopIteration(), RecursionError(), MemoryError()]
)
def test_whatever_is_raised_is_replaced(error: BaseException) -> None:
    """Exits as well, which would end the program with the exit code of foreign code."""
    with pytest.raises(UsageError, match=type(error).__name__) as caught, border(lambda one: UsageError(in_short(one))):
        raise error

    assert error is caught.value.__cause__


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Terminated(), StepError("known")])
def test_stops_and_known_errors_pass(error: BaseException) -> None:
    """They are the same on the other side."""
    with pytest.raises(type(error)) as caught, border(lambda one: UsageError(in_short(one))):
        raise error

    assert error is caught.value


@pytest.mark.parametrize("error", [SystemExit(0), GeneratorExit(), OddError(), BaseException("odd")])
def test_foreign_code_cannot_end_the_program(error: BaseException) -> None:
    """An exit of a network is an error of its code."""
    with (
        pytest.raises(OwnCodeError, match=f"calling `Net` failed: {type(error).__name__}"),
        foreign_code("calling `Net`"),
    ):
        raise error


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("~nosuchuser/x", "home directory"),
        ("a\0b", "null"),
        ("x" * 5000, "too long"),
        ("loop", "Too many levels|links"),
    ],
)
def test_a_text_that_is_no_path_is_refused(tmp_path: Path, path: str, reason: str) -> None:
    """By one sentence that names it, cut."""
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UsageError, match=rf"cannot be found: .*({reason})") as caught:
        expand(tmp_path / path if path == "loop" else path)

    assert len(caught.value.message) < 300


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ESTALE, errno.EIO, errno.ENOTCONN, errno.EACCES])
def test_an_error_of_the_file_system_does_not_make_a_path_a_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Windows answers EINVAL for a glob; for a folder that is gone, the reader of its files raises the error."""

    def stat(path: Path, **_: Any) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "stat", stat)
    monkeypatch.setattr(Path, "is_file", stat)

    assert tmp_path / "train-*.parquet" == expand(tmp_path / "train-*.parquet")
    with pytest.raises(OSError, match=os.strerror(number)):
        content_of({"weights": str(tmp_path / "weights.bin")})


def test_a_path_that_does_not_exist_is_one(tmp_path: Path) -> None:
    """Commands create it, or say that it is missing."""
    assert tmp_path / "a" / "b" == expand(tmp_path / "a" / "b")
    assert Path.home() == expand("~")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ModuleNotFoundError("No module named 'half'", name="half"), "x needs half, which is not installed"),
        (
            ModuleNotFoundError("No module named 'torch.old'", name="torch.old"),
            "x needs half, which cannot be imported: ",
        ),
        (ImportError("cannot import name 'a'", name="half"), "cannot be imported: ImportError: cannot import name 'a'"),
        (
            AttributeError("module has no attribute 'b'"),
            "cannot be imported: AttributeError: module has no attribute 'b'",
        ),
        (SystemExit(1), "x needs half, which cannot be imported: SystemExit: 1"),
        (ModuleNotFoundError("No module named 'other'", name="other"), "x needs other, which is not installed"),
        (ImportError("undefined symbol", name="other.core"), "x needs other, which cannot be imported: ImportError"),
    ],
)
def test_a_damaged_library_is_a_missing_one(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, message: str
) -> None:
    """Half an installation raises anything; the hint installs it in both cases."""
    ordinary = builtins.__import__

    def load(name: str, *about: Any) -> Any:
        if name == "half":
            raise error
        return ordinary(name, *about)

    monkeypatch.setattr(builtins, "__import__", load)
    with (
        pytest.raises(MissingExtra, match=message) as caught,
        optional("half", "other", purpose="x", install="'autosparse[half]'"),
    ):
        __import__("half")

    assert "run `pip install 'autosparse[half]'`" == caught.value.hint


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("Storage size calculation overflowed with sizes=[9]"), True),
        (RuntimeError("unable to mmap 9 bytes from file <a.bin>: Cannot allocate memory (12)"), True),
        (OSError(errno.ENOMEM, "kein Speicher"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (type("Odd", (RuntimeError, OddError), {})(), False),
        (RuntimeError("shapes cannot be multiplied"), False),
    ],
)
def test_memory_that_ran_out_is_known(error: BaseException, is_it: bool) -> None:
    """Torch's allocator of the CPU raises a plain RuntimeError."""
    assert is_it == is_out_of_memory(error)


@pytest.mark.parametrize(
    ("act", "kind", "message"),
    [
        (lambda: size("x"), InternalError, r"internal error: TypeError: .* in autosparse/text.py:\d+"),  # type: ignore[arg-type]
        (lambda: os.listdir("/nowhere"), StepError, "FileNotFoundError"),
        (lambda: builtins.exec("exit(0)"), StepError, "failed: .*SystemExit: 0"),
    ],
    ids=["ours", "system", "exit"],
)
def test_a_bug_in_a_step_is_no_failure_of_the_step(
    act: Callable[[], object], kind: type[StepError], message: str
) -> None:
    """It exits with 70 and asks for a report; both name the step."""
    step = next(iter(compiled(shipped("specs")["digits"]).steps.values()))
    with pytest.raises(kind, match=message) as caught, failures_of(step):
        act()

    assert (step.name, kind.exit_code) == (caught.value.step, caught.value.exit_code)
    assert f"step `{step.name}` failed: " in caught.value.message


@pytest.mark.parametrize(
    ("error", "expected"),
    [(KeyError("x"), ValueError), (SystemExit(3), ValueError), (MemoryError(), FitError)],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_lack_of_memory_is_no_property_of_a_network(
    error: BaseException, expected: type[Exception], wrapped: bool
) -> None:
    """torch's exporters wrap the errors of a network: the cause decides."""
    raised = RuntimeError("failed to export") if wrapped else error
    raised.__cause__ = error if wrapped else None

    with pytest.raises(expected), border(refusal("torch.onnx does not export it")):
        raise raised
