"""Files: canonical JSON, SHA-256 digests, and files and folders that appear whole.

A file or a folder is drafted under the name `.NAME.<12 hex digits>` next to its path and moved there. Its process locks
the draft; the system unlocks the draft of a killed process, and `sweep` removes it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from autosparse.errors import MissingRequirement
from autosparse.regular_file import open_regular
from autosparse.text import size

try:
    import fcntl
except ImportError:  # Windows: the age of a draft decides
    fcntl = None  # type: ignore[assignment]

_DRAFT = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{12}\.draft", re.DOTALL)
_LONGEST = 200  # bytes of a name that a draft keeps
_ABANDONED = 86400.0  # seconds after which a draft counts as abandoned on a file system without locks


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
    with _draft(path, lambda draft: draft.touch(exist_ok=False)) as draft:
        try:
            yield draft
            move(draft, path)
        finally:
            draft.unlink(missing_ok=True)


@contextmanager
def drafted_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to fill in the block; it appears at `path` at the end, in one rename and flushed to disk.

    Raises FileExistsError if something other than an empty folder exists by then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch(path) as draft:
        yield draft
        for inner in (*draft.rglob("*"), draft):
            flush(inner)
        try:
            draft.rename(path)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
            raise
        flush(path.parent)


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """Yield an empty folder next to `path` for the block; remove those that killed processes left there."""
    sweep(path.parent, path.name)
    with _draft(path, Path.mkdir) as draft:
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def _draft(path: Path, create: Callable[[Path], object]) -> Iterator[Path]:
    with ExitStack() as lock:
        while True:
            draft = _beside(path)
            create(draft)
            with suppress(FileNotFoundError):  # it was swept before it was locked
                lock.enter_context(held(draft))
                if draft.exists():
                    break
        yield draft


def _beside(path: Path) -> Path:
    # An unused path in the same folder.
    return path.with_name(f".{_short(path.name)}.{uuid.uuid4().hex[:12]}.draft")


def _short(name: str) -> str:
    return name if len(os.fsencode(name)) <= _LONGEST else os.fsencode(name)[:_LONGEST].decode("utf-8", "ignore")


def link_new(draft: Path, path: Path) -> None:
    """Move a file to an unused path. Raises FileExistsError if it exists."""
    try:
        os.link(draft, path)
    except FileExistsError:
        raise
    except OSError:  # mostly a file system without hard links: an empty file reserves the path for the rename
        path.touch(exist_ok=False)
        try:
            os.replace(draft, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def sweep(folder: Path, *names: str) -> None:
    """Remove the drafts that killed processes left in a folder; `names` limits it to drafts of these paths."""
    with suppress(OSError):
        for path in [*folder.iterdir()]:
            name = drafted_name(path.name)
            if name and (not names or name in map(_short, names)):
                with suppress(OSError), unheld(path) as is_free:
                    if is_free or (is_free is None and time.time() - path.stat().st_mtime > _ABANDONED):
                        shutil.rmtree(path) if path.is_dir() else path.unlink()


def drafted_name(name: str) -> str | None:
    """Return the name under which a draft is published, cut if it is long; None for the name of another file."""
    match = _DRAFT.fullmatch(name)
    return match and match["name"]


def discard(folder: Path) -> None:
    """Remove a folder: it vanishes whole, in one rename, before its files are deleted."""
    folder = folder.resolve()
    gone = _beside(folder)
    folder.rename(gone)
    shutil.rmtree(gone)


@contextmanager
def held(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Lock a file or a folder for the block, with `shared` together with others; the lock ends with the process.

    Network file systems lock files alone.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def unheld(path: Path) -> Iterator[bool | None]:
    """Yield whether no process holds a file or a folder, and hold it for the block if so; None without locks."""
    if fcntl is None:
        yield None
        return
    descriptor = os.open(path, (os.O_RDONLY if path.is_dir() else os.O_RDWR) | os.O_NONBLOCK)
    try:
        is_free: bool | None = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            is_free = False if isinstance(error, BlockingIOError) else None
        yield is_free
    finally:
        os.close(descriptor)


def holds(path: Path, data: bytes) -> bool:
    """Return whether a file has these bytes."""
    return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data


def occupied(files: Mapping[Path, bytes]) -> Path | None:
    """Return an existing file that a call must not replace, or None; a killed call leaves some of its files whole."""
    there = [path for path in files if path.exists()]
    others = there if len(there) == len(files) else [path for path in there if not holds(path, files[path])]
    return others[0] if others else None


def write_through(path: Path, data: bytes, mode: str = "wb") -> None:
    """Write a file and flush it to disk."""
    with open(path, mode) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def writing(path: Path, hint: str | None = "name another folder in `AUTOSPARSE_CACHE_DIR`") -> Iterator[None]:
    """Raise MissingRequirement for an OSError in a block that writes a file or a folder."""
    try:
        yield
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror or error}"
        raise MissingRequirement(message, FREE_SPACE if is_full(error) else hint) from error


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
    # Windows flushes only what is open for writing.
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
