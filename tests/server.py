"""Runs commands one after another, each in a fork that has imported already what a new process takes seconds to import.

`python -m tests.server` reads a request in JSON a line, runs `autosparse` as `python -m autosparse` would, and answers
with the exit code. Tests of signals and of two commands at once start processes. Hooks, functions of the tests with
their options, run before the command in its process.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import autosparse

_RARE = {"autosparse.__main__", "autosparse.core.sparse.kernels"}  # and what most runs do not import


def main() -> None:
    """Answer requests until there are no more."""
    for module in pkgutil.walk_packages(autosparse.__path__, "autosparse."):
        if module.name not in _RARE:
            importlib.import_module(module.name)
    for name in ("torch", "optuna", "sklearn.datasets"):
        importlib.import_module(name)
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        gc.freeze()
        for line in sys.stdin:
            if not (process := os.fork()):
                answers.close()
                _become(**json.loads(line))
            _, status = os.waitpid(process, 0)
            answers.write(f"{os.waitstatus_to_exitcode(status)}\n")
            answers.flush()


def _become(
    arguments: list[str],
    folder: str,
    environment: dict[str, str],
    out: str,
    err: str,
    hooks: Sequence[tuple[str, str, Mapping[str, Any]]] = (),
) -> NoReturn:
    functions = [(getattr(importlib.import_module(module), name), options) for module, name, options in hooks]
    command = importlib.import_module("autosparse.__main__")
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for name, descriptor in (os.devnull, 0), (out, 1), (err, 2):
        os.dup2(os.open(name, os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv, sys.path[0] = [command.__file__ or "", *arguments], folder
    sys.modules["__main__"] = command  # what processes that are begun from there look for
    code = 0
    try:
        for function, options in functions:
            function(**options)
        command.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    # As the interpreter ends, but without freeing what the parent imported, which takes a second.
    atexit._run_exitfuncs()
    for stream in sys.stdout, sys.stderr:
        try:
            stream.flush()
        except OSError:
            code = 120
        except ValueError:  # closed
            pass
    os._exit(code)


if __name__ == "__main__":
    main()
