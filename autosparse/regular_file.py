"""Reading of regular files: a pipe, a socket, a device or a folder is refused before it can block.

Every refusal is an OSError, as for a file that cannot be read.
"""

from __future__ import annotations

import errno
import math
import os
import stat
from io import BufferedReader
from pathlib import Path

LARGEST_NOTE, LARGEST_MEMORY, LARGEST_IMAGE = 2**26, 2**30, 2**30
"""Most bytes of a descriptor, report or other small document, of a remembered value or the index, of an image file."""


class NotRegularError(OSError):
    """Path of a pipe, a socket or a device where a file is expected."""


_KINDS = {
    stat.S_IFIFO: "it is a named pipe, not a file",
    stat.S_IFSOCK: "it is a socket, not a file",
    stat.S_IFCHR: "it is a device, not a file",
    stat.S_IFBLK: "it is a device, not a file",
}


def open_regular(path: str | Path) -> BufferedReader:
    """Open a regular file to read its bytes. Raises OSError for anything else, without waiting for it."""
    return open(path, "rb", opener=_opened)


def read_regular(path: str | Path, *, most: float = math.inf) -> bytes:
    """Return the bytes of a regular file. Raises OSError for anything else, and for more than `most` bytes, at once."""
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        return file.read()


def _opened(path: str, flags: int) -> int:
    # Look before opening: opening a device acts on it. Look again, without blocking, at the file that opened.
    _check(os.stat(path), path)
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    try:
        _check(os.fstat(descriptor), path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(about: os.stat_result, path: str) -> None:
    if stat.S_ISDIR(about.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(about.st_mode):
        raise NotRegularError(errno.EINVAL, _KINDS.get(stat.S_IFMT(about.st_mode), "it is not a regular file"), path)
