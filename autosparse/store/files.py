"""Files of the store: canonical JSON, SHA-256 digests, and atomic writes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autosparse.errors import MissingRequirement
from autosparse.regular_file import open_regular
from autosparse.text import size


def canonical(value: Any) -> str:
    """Return JSON with sorted keys, no spaces and no NaN: equal values give equal texts on every machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace").decode()  # bytes of file names that are no text become escapes


def digest(value: Any) -> str:
    """Return the sha256 of the canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def key_of(operation: str, version: int, options: Any, inputs: Any) -> str:
    """Return a cache key: the digest of operation, version, all options, and the keys of the inputs."""
    return digest({"operation": operation, "version": version, "options": options, "inputs": inputs})


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def drafted(path: Path, move: Callable[[Path, Path], object] = os.replace) -> Iterator[Path]:
    """Yield the path of a draft to write in the block; `move` publishes it at `path` at the end, atomically."""
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        yield draft
        move(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_through(path: Path, data: bytes, mode: str = "wb") -> None:
    """Write a file and flush it to disk."""
    with open(path, mode) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise MissingRequirement for an OSError in a block that writes a file."""
    try:
        yield
    except OSError as error:
        raise MissingRequirement(
            f"{path} cannot be written: {error.strerror or error}",
            FREE_SPACE if is_full(error) else "name another folder in `AUTOSPARSE_CACHE_DIR`",
        ) from error


def check_room(folder: Path, needed: int) -> None:
    """Raise MissingRequirement where the disk of a folder has fewer than `needed` free bytes."""
    here = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if needed > (free := shutil.disk_usage(here).free):
        raise MissingRequirement(f"{folder} has {size(free)} free, but new artifacts take {size(needed)}", FREE_SPACE)


FREE_SPACE = "free some space, such as by `autosparse cache gc`; the same command then resumes"
"""Remedy for a full disk or an exhausted quota."""


def is_full(error: OSError) -> bool:
    """Return whether a disk is full, or a user's quota is exhausted."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def flush(path: Path) -> None:
    """Flush a file or a folder to disk."""
    if os.name != "posix" and path.is_dir():  # Windows cannot open a folder; its rename is durable without
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
