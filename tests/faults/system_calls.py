"""Seam of the file system: counts the calls of a process below a folder, and kills it or fails at the n-th."""

from __future__ import annotations

import builtins
import io
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHANGES = frozenset({
    "open to write", "write", "fsync", "mkdir", "rmdir", "unlink", "remove", "rename", "replace", "link", "symlink",
    "truncate", "chmod", "utime", "sendfile",
})  # fmt: skip
"""Names of the calls that change files; all others read."""

_BY_PATH = (*sorted(CHANGES - {"open to write", "write", "fsync", "sendfile"}), "stat", "lstat", "scandir", "listdir")
_readlink, _real_open, _append = os.readlink, io.open, os.write


class _Seam:
    """Counter of the calls below `folder`; at number `at` it raises an OSError with `error`, or kills without one."""

    def __init__(self, folder: Path, names: frozenset[str] | None, at: int, error: int | None, trace: int) -> None:
        self._folder, self._names, self._at, self._error, self._trace = str(folder), names, at, error, trace
        self._number = 0

    def holds(self, path: Any) -> bool:
        text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        return os.path.normpath(os.path.join(os.getcwd(), text)).startswith(self._folder) if text else False

    @contextmanager
    def around(self, name: str, path: Any) -> Iterator[bool]:
        # Yields whether to kill in the middle of the call.
        if not self.holds(path) or (self._names is not None and name not in self._names):
            yield False
            return
        self._number += 1
        hit = self._number == self._at
        if self._trace:
            shown = os.path.normpath(os.path.join(os.getcwd(), os.fsdecode(path))).removeprefix(self._folder)
            _append(self._trace, f"{name} {shown.lstrip('/') or '.'}\n".encode(errors="backslashreplace"))
        if hit and self._error is not None:
            raise OSError(self._error, os.strerror(self._error), os.fsdecode(path))
        try:
            yield hit and self._error is None
        finally:
            if hit:  # also after a call that fails, such as a mkdir of a folder that exists
                os.kill(os.getpid(), signal.SIGKILL)


def install(
    folder: str,
    *,
    changes: bool = True,
    name: str | None = None,
    at: int = 0,
    error: int | None = None,
    trace: str = "",
) -> None:
    """Count the calls of this process below a folder: those that change files or all, or those of one name.

    Call number `at` raises an OSError of this errno; without one the process is killed after it, in a write after the
    first half of its bytes. The file `trace` lists every call.
    """
    names = frozenset({name}) if name else CHANGES if changes else None
    known = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644) if trace else 0
    seam = _Seam(Path(folder), names, at, error, known)
    for call in _BY_PATH:
        setattr(os, call, _by_path(seam, call, getattr(os, call)))
    setattr(os, "write", _by_descriptor(seam, "write", os.write))  # noqa: B010  # mypy knows os's functions as constants
    setattr(os, "fsync", _by_descriptor(seam, "fsync", os.fsync))  # noqa: B010
    setattr(os, "sendfile", _by_descriptor(seam, "sendfile", os.sendfile))  # noqa: B010
    setattr(os, "open", _os_open(seam, os.open))  # noqa: B010
    opened = _open(seam)
    setattr(builtins, "open", opened)  # noqa: B010
    setattr(io, "open", opened)  # noqa: B010


def limit(seconds: int, memory: int) -> None:
    """End this process by SIGALRM after a time, and refuse it more than `memory` bytes of data."""
    signal.alarm(seconds)
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


def later(days: float) -> None:
    """Move the clock of this process forward."""
    real = time.time
    setattr(time, "time", lambda: real() + days * 86400)  # noqa: B010


def _by_path(seam: _Seam, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(path: Any = ".", *arguments: Any, **named: Any) -> Any:
        if isinstance(path, int):
            return real(path, *arguments, **named)
        within, base = path, named.get("dir_fd", named.get("src_dir_fd"))
        if base is not None:
            within = os.path.join(_readlink(f"/proc/self/fd/{base}"), os.fsdecode(path))
        with seam.around(name, within):
            return real(path, *arguments, **named)

    return call


def _by_descriptor(seam: _Seam, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(descriptor: int, *arguments: Any) -> Any:
        with seam.around(name, _readlink(f"/proc/self/fd/{descriptor}")):
            return real(descriptor, *arguments)

    return call


def _os_open(seam: _Seam, real: Callable[..., int]) -> Callable[..., int]:
    def call(path: Any, flags: int, *arguments: Any, **named: Any) -> int:
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        base = named.get("dir_fd")
        within = os.path.join(_readlink(f"/proc/self/fd/{base}"), os.fsdecode(path)) if base is not None else path
        with seam.around("open to write" if writes else "open to read", within):
            return real(path, flags, *arguments, **named)

    return call


def _open(seam: _Seam) -> Callable[..., Any]:
    class File(io.FileIO):
        def write(self, data: Any, /) -> int:
            with seam.around("write", self.name) as half:
                return super().write(memoryview(data)[: len(data) // 2] if half else data) or 0

        def readinto(self, buffer: Any, /) -> int:
            with seam.around("read", self.name):
                return super().readinto(buffer) or 0

        def readall(self) -> bytes:
            with seam.around("read", self.name):
                return super().readall() or b""

    def call(
        file: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, errors: Any = None, newline: Any = None,
        **others: Any,
    ) -> Any:  # fmt: skip
        if isinstance(file, int) or not seam.holds(file) or others:
            return _real_open(file, mode, buffering, encoding, errors, newline, **others)
        writes = bool({*mode} & {*"wax+"})
        with seam.around("open to write" if writes else "open to read", file):
            raw = File(file, mode.replace("b", "").replace("t", ""))
        if buffering == 0:
            return raw
        kind: Any = io.BufferedRandom if "+" in mode else io.BufferedWriter if writes else io.BufferedReader
        buffered = kind(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    return call
