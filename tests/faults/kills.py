"""Kill of a process right before one of its changes to the file system, by a Python audit hook."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
# Audit event of a change -> the positions of its paths and of their directories' descriptors.
_CHANGES = {
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
    "os.mkdir": ((0, 2),),
    "os.rmdir": ((0, 1),),
    "os.remove": ((0, 1),),
    "os.truncate": ((0, None),),
}


def arm(folder: str | Path, number: int) -> None:
    """Kill this process by SIGKILL right before its change `number`, from 1, to a path in a folder.

    Changes are files opened for writing, and files and folders that are made, moved, linked, cut or removed.
    """
    within, changes = os.path.realpath(folder), count(1)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        is_within = any(os.path.commonpath([within, path]) == within for path in _changed(event, arguments))
        if is_within and next(changes) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def every_kill(folder: Path, act: Callable[[], object]) -> Iterator[int]:
    """Call a function in forks, each killed at the next change to a folder, until one ends; yield after every kill."""
    for number in count(1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the fork of a process with threads: it starts none
            process = os.fork()
        if not process:
            try:
                arm(folder, number)
                act()
            except BaseException:
                os._exit(1)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if status == 0:
            return
        assert -signal.SIGKILL == status
        yield number


def _changed(event: str, arguments: tuple[Any, ...]) -> Iterator[str]:
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, str | bytes) and isinstance(flags, int) and flags & _WRITES:
            yield os.path.realpath(os.fsdecode(path))
    for position, descriptor in _CHANGES.get(event, ()):
        path, base = arguments[position], -1 if descriptor is None else arguments[descriptor]
        if isinstance(path, str | bytes | os.PathLike):
            parent = os.readlink(f"/proc/self/fd/{base}") if isinstance(base, int) and base >= 0 else ""
            yield os.path.realpath(os.path.join(parent, os.fsdecode(path)))
