"""Runs commands one after another, each in a fork that has imported already what a new process takes seconds to import.

`python -m tests.server` reads a request in JSON a line, runs `autosparse` as `python -m autosparse` would, and answers
with the exit code. Tests of signals and of two commands at once start processes.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import signal
import sys
from pathlib import Path

import autosparse
from tests.faults.kills import arm

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
        for line in sys.stdin:
            if not (process := os.fork()):
                answers.close()
                _become(**json.loads(line))
                break
            _, status = os.waitpid(process, 0)
            answers.write(f"{os.waitstatus_to_exitcode(status)}\n")
            answers.flush()


def _become(
    arguments: list[str], folder: str, environment: dict[str, str], out: str, err: str, kill: tuple[str, int] | None
) -> None:
    command = importlib.import_module("autosparse.__main__")
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for name, descriptor in (os.devnull, 0), (out, 1), (err, 2):
        os.dup2(os.open(name, os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv, sys.path[0] = [command.__file__ or "", *arguments], folder
    sys.modules["__main__"] = command  # what processes that are begun from there look for
    if kill:
        arm(Path(kill[0]), kill[1])
    command.main()


if __name__ == "__main__":
    main()
