"""Command line: parse arguments, call the modules of the architecture, set exit codes."""

from __future__ import annotations

import codecs
import io
import os
import sys
import traceback
from contextlib import suppress
from typing import Any

import typer

from autosparse.cli import doctor, run, export, cache, runs, specs, compare  # isort: skip  # the order of `--help`
from autosparse.borders import is_out_of_memory
from autosparse.cli.app import Stop, app, say, say_error
from autosparse.cli.help import misuse
from autosparse.console.format import show_text
from autosparse.errors import (
    AutosparseError,
    SpecError,
    Terminated,
    UsageError,
)
from autosparse.foreign_code import unexpected
from autosparse.packaged import __version__
from autosparse.text import spelled

_MISUSE: Any = typer.BadParameter.__mro__[1]  # typer's base class of option errors, which it does not export


_FIRST = f"""\
autosparse {__version__}: a declarative compiler for pruning neural networks at initialization

  autosparse run         try it: handwritten digits, from IRP to pruned networks and a report, in two minutes
  autosparse init        write a commented spec to start from
  autosparse plan SPEC   each step of a run, reused or run, with its reason and cost

`autosparse --help` lists all commands, `autosparse doctor` checks this machine"""


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit with its code; no other function prints an error or exits."""
    arguments = sys.argv[1:] if arguments is None else arguments
    stop = Stop()
    stop.watch()
    codecs.register_error("spelled", spelled)
    for stream in (sys.stdout, sys.stderr):  # for terminals without some characters
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="spelled")
    try:
        code = _run(arguments)
    except BaseException as error:
        code = _report(error, arguments, stop)
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    if not arguments and "_AUTOSPARSE_COMPLETE" not in os.environ:  # shell completion passes no arguments
        show_text(_FIRST)
        return 0
    code = app(args=arguments, prog_name="autosparse", standalone_mode=False)
    if sys.stdout:
        sys.stdout.flush()  # here, where a failure is reported
    return code if isinstance(code, int) else 0


def _report(error: BaseException, arguments: list[str], stop: Stop) -> int:
    """Print an error in one line, with its remedy, and return the exit code of the command."""
    if "--debug" in arguments and not isinstance(error, SystemExit | BrokenPipeError):
        traceback.print_exception(error)
    match error:
        case _ if stop.code:  # whatever a library made of it
            return _stopped(error, stop.code)
        case SystemExit():
            return _exited(error.code)
        case KeyboardInterrupt():
            return _stopped(error, 130)
        case Terminated():
            return 143
        case typer.Abort():  # the end of stdin
            return 1
        case BrokenPipeError():  # the reader of the pipe exited
            _discard_output()
            return 1
    known = _known(error, arguments)
    with suppress(OSError):  # stderr may be closed
        if isinstance(error, _MISUSE) and error.message.startswith("Usage:"):  # a group without a command: its help
            say(error.message)
        else:
            _say(known)
    return 1 if "--detailed-exitcode" in arguments else known.exit_code  # 2 means steps to run


def _say(error: AutosparseError) -> None:
    for message, hint in error.problems:
        say_error(message, hint)
    if isinstance(error, SpecError) and len(error.errors) > 1:
        say(error.summary)


def _stopped(error: BaseException, code: int) -> int:
    if code == 130 and not isinstance(error, SystemExit):  # a command that exits has printed more about it
        say("stopped")
    return code


def _exited(code: object) -> int:
    # As Python ends with SystemExit: None is no error, a text is one.
    if code is None or isinstance(code, int):
        return code or 0
    with suppress(OSError):  # stderr may be closed
        say(str(code))
    return 1


def _known(error: BaseException, arguments: list[str]) -> AutosparseError:
    # The error of autosparse that stands for any error.
    match error:
        case AutosparseError():
            return error
        case _MISUSE():
            return UsageError(*misuse(error, arguments))
        case OSError() if not is_out_of_memory(error):  # such as a full disk behind stdout
            _discard_output()
    return unexpected(error)


def _discard_output() -> None:
    # Python flushes stdout's buffer at exit, which would fail again.
    with suppress(OSError, ValueError, AttributeError):  # no stdout, or none with a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
