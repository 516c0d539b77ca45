"""Garbage collection: runs record the artifacts they use; unused ones can be deleted."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from autosparse.borders import first_line
from autosparse.errors import Busy, DamagedArtifact, MissingRequirement
from autosparse.store.descriptor import size_of
from autosparse.store.files import sweep, unheld
from autosparse.store.local import Store, read_memory
from autosparse.store.remote import Remote

_REFRESH, _AGAIN = 3600.0, 90.0  # seconds until a running plan renews its claim, and until a retry after a failure
_DRAFTS = 86400.0  # seconds after which an unfinished draft counts as abandoned


@dataclass(frozen=True)
class Unused:
    """Artifact without a recent run that used it, or files of no artifact."""

    operation: str
    key: str
    bytes: int


@contextmanager
def in_use(store: Store, name: str, keys: Collection[str]) -> Iterator[None]:
    """Record the artifacts of a run during and after it; in a shared store again every hour."""
    from_thread, ended = Store(store.root, store.url), threading.Event()

    def mark() -> bool:
        note = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "keys": sorted(keys)}
        from_thread.note(f"used-{name}", note)
        return from_thread.claim(name, note)

    def mark_again(marked: bool) -> None:
        while not ended.wait(_REFRESH if marked else _AGAIN):
            marked = mark()

    lock = FileLock(store.root / "locks" / f"use-{name}-{os.getpid()}.lock")
    with suppress(OSError, Timeout):
        (store.root / "locks").mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    try:
        marked = mark()
        if store.url:
            threading.Thread(target=mark_again, args=(marked,), name="autosparse in use", daemon=True).start()
        yield
    finally:
        ended.set()
        lock.release()
        with suppress(OSError):
            Path(lock.lock_file).unlink()


def collect(store: Store, seconds: float, *, dry: bool = False) -> Iterator[Unused]:
    """Delete, or with `dry` list, artifacts created and last used by a run more than `seconds` ago.

    The write time of its folder dates an artifact without a readable descriptor.
    """
    since = time.time() - seconds
    there = [(path, _dated(path)) for path in sorted((store.root / "artifacts").glob("*/*"))]
    used = _used(_records(store), since, partial(_goes_on, store))  # after the listing: runs started since then count
    for path, dated in there:
        if dated is None or dated[0] > since or dated[1].key in used:
            continue
        one = dated[1]
        if not dry:
            try:
                with store.lock(one.key, wait=False):
                    if _dated(path) != dated:  # replaced since
                        continue
                    store.remove(one.operation, one.key)
            except Busy:
                continue
        yield one
    for path, problem in store.verify_memory():
        if problem and path.is_file():
            size = path.stat().st_size
            if not dry:
                path.unlink(missing_ok=True)
            yield Unused("memory", path.stem, size)
    for name in ("drafts", "damaged", "fetched"):
        folders = (store.root / name).iterdir() if (store.root / name).is_dir() else ()
        for folder in folders:
            with suppress(FileNotFoundError):
                age = time.time() - folder.stat().st_mtime
                if folder.name in used or age < max(_DRAFTS, seconds if name == "fetched" else 0.0):
                    continue
                size = _bytes_in(folder)
                if not dry:
                    shutil.rmtree(folder, ignore_errors=True)
                yield Unused(name, folder.name, size)
    for path in sorted((store.root / "checkpoints").glob("*.checkpoint")):
        with suppress(FileNotFoundError):
            if path.stem in used or time.time() - path.stat().st_mtime < max(_DRAFTS, seconds):
                continue
            size = path.stat().st_size
            if not dry:
                path.unlink()
            yield Unused("checkpoints", path.stem, size)
    if not dry:
        _forget(store, min(since, time.time() - _DRAFTS))


def _forget(store: Store, before: float) -> None:
    # Records of runs that ended long ago, which keep no artifact any more, and what killed processes left.
    for path in (store.root / "memory").glob("used-*.json"):
        with suppress(OSError):
            if path.stat().st_mtime < before and not _goes_on(store, path):
                path.unlink()
    for path in (store.root / "locks").glob("use-*.lock"):
        with suppress(OSError), unheld(path) as is_free:
            if is_free and path.stat().st_mtime < before:
                path.unlink()
    sweep(store.root / "memory")


def collect_remote(remote: Remote, seconds: float, *, dry: bool = False) -> Iterator[Unused]:
    """Delete unused artifacts of a shared store, and files without a descriptor a day after they were written.

    Records of runs that ended before both, and drafts of killed processes, go with them. The write time of an
    unreadable descriptor dates its artifact.

    If an artifact with such a file is published at that moment, a reader detects the missing file and rebuilds it.
    """
    since = time.time() - seconds
    there = list(remote.descriptors())
    used = _used(remote.claims(), since)
    kept = set[str]()
    for (operation, key), about, written in there:
        if key in used or (written if about is None else _time(about.get("created"))) > since:
            kept |= {file["sha256"] for file in about["files"].values()} if about else set()
            continue
        if not dry:
            remote.remove(operation, key)
        yield Unused(operation, key, size_of(about) if about else 0)
    if not dry:
        remote.sweep(kept, time.time() - _DRAFTS, ended=min(since, time.time() - _DRAFTS))


def _dated(path: Path) -> tuple[float, Unused] | None:
    # The artifact in a folder after its time; None if it is no folder, or gone.
    operation, key = path.parent.name, path.name
    try:
        artifact = Store(path.parents[2]).open(operation, key)
        return _time(artifact.descriptor.get("created")), Unused(operation, key, artifact.size)
    except DamagedArtifact:
        with suppress(OSError):
            if path.is_dir():
                return path.stat().st_mtime, Unused(operation, key, _bytes_in(path))
        return None


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@dataclass(frozen=True)
class _Use:
    """Content of a run's record."""

    time: datetime
    keys: frozenset[str]


_USE = TypeAdapter(_Use)


def _records(store: Store) -> Iterator[tuple[str, float, Callable[[], Any]]]:
    for path in sorted((store.root / "memory").glob("used-*.json")):
        with suppress(FileNotFoundError):
            yield str(path), path.stat().st_mtime, partial(read_memory, path)


def _used(
    records: Iterable[tuple[str, float, Callable[[], Any]]],
    since: float,
    goes_on: Callable[[str], bool] = lambda name: False,
) -> set[str]:
    # Keys of the runs' records (path, write time and reader); the write time dates one that cannot be read.
    used, damaged = set[str](), list[str]()
    for path, written, read in records:
        problem, keys, at = "", frozenset[str](), written
        try:
            use = _USE.validate_python(read())
            keys, at = use.keys, use.time.timestamp()
        except FileNotFoundError:
            continue
        except (OSError, ValueError, DamagedArtifact) as error:
            is_odd = isinstance(error, ValidationError)
            problem = f"{path} is damaged: {'it is not the record of a run' if is_odd else first_line(error)}"
        if at > since or goes_on(path):
            used |= keys
            damaged += [problem] * bool(problem)
    if damaged:
        message = f"{'; '.join(damaged)}; a run with such a record may have used any artifact"
        raise MissingRequirement(message, "delete these files to let the artifacts of those runs go too")
    return used


def _goes_on(store: Store, record: str | Path) -> bool:
    # Whether a live process holds the run of a record: locks of dead processes are free.
    name = Path(record).stem.removeprefix("used-")
    for path in (store.root / "locks").glob(f"use-{name}-*.lock"):
        try:
            with FileLock(path).acquire(timeout=0):
                continue
        except (Timeout, OSError):
            return True
    return False


def _time(timestamp: object) -> float:
    # Infinite for an invalid timestamp, so that the artifact is kept.
    try:
        return datetime.fromisoformat(str(timestamp)).timestamp()
    except ValueError:
        return float("inf")
