"""Command line: parse arguments, call the modules of the architecture, set exit codes."""

from __future__ import annotations

import codecs
import io
import os
import signal
import sys
import traceback
from typing import Any

import typer

from autosparse.cli import doctor, run, export, cache, runs, specs, compare  # isort: skip  # the order of `--help`
from autosparse.cli.app import Terminated, app, say, say_error, terminate
from autosparse.cli.help import misuse
from autosparse.console.format import show_text
from autosparse.errors import AutosparseError, MissingRequirement, SpecError, UsageError
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
    if not arguments and "_AUTOSPARSE_COMPLETE" not in os.environ:  # shell completion passes no arguments
        show_text(_FIRST)
        sys.exit(0)
    detailed = "--detailed-exitcode" in arguments
    signal.signal(signal.SIGTERM, terminate)
    codecs.register_error("spelled", spelled)
    for stream in (sys.stdout, sys.stderr):  # for terminals without some characters
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="spelled")
    try:
        code = app(args=arguments, prog_name="autosparse", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except _MISUSE as error:
        if error.message.startswith("Usage:"):  # a group without a command: its help
            say(error.message)
        else:
            say_error(*misuse(error, arguments))
        sys.exit(1 if detailed else UsageError.exit_code)  # 2 means steps to run under `--detailed-exitcode`
    except AutosparseError as error:
        if "--debug" in arguments:
            traceback.print_exc()
        for message, hint in error.problems:
            say_error(message, hint)
        if isinstance(error, SpecError) and len(error.errors) > 1:
            say(error.summary)
        sys.exit(1 if detailed else error.exit_code)
    except typer.Abort:  # the end of stdin
        sys.exit(1)
    except KeyboardInterrupt:
        say("stopped")
        sys.exit(130)
    except Terminated:
        sys.exit(143)
    except BrokenPipeError:  # the reader of the pipe exited
        _discard_output()
        sys.exit(1)
    except OSError as error:  # such as a full disk behind stdout
        if "--debug" in arguments:
            raise
        _discard_output()
        say(f"error: {error.filename or 'the output'} cannot be written or read: {error.strerror}")
        sys.exit(1 if detailed else MissingRequirement.exit_code)


def _discard_output() -> None:
    # Python flushes stdout's buffer at exit, which would fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
