"""Garbage collection: runs record the artifacts they use; unused ones can be deleted."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from autosparse.errors import Busy, MissingRequirement
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
    """Delete, or with `dry` list, artifacts created and last used by a run more than `seconds` ago."""
    since = time.time() - seconds
    there = list(store.artifacts())
    used = _used(store, since)  # after the listing, so that runs started since then count
    for artifact in there:
        if artifact.key in used or _time(artifact.descriptor.get("created")) > since:
            continue
        operation = str(artifact.descriptor["operation"])
        if not dry:
            try:
                with store.lock(artifact.key, wait=False):
                    store.remove(operation, artifact.key)
            except Busy:
                continue
        yield Unused(operation, artifact.key, artifact.size)
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
                size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                if not dry:
                    shutil.rmtree(folder, ignore_errors=True)
                yield Unused(name, folder.name, size)
    if not dry:
        _forget(store, min(since, time.time() - _DRAFTS))


def _forget(store: Store, before: float) -> None:
    # Records of runs that ended long ago, which keep no artifact any more, and what killed processes left.
    for path in (store.root / "memory").glob("used-*.json"):
        with suppress(OSError):
            if path.stat().st_mtime < before and not _goes_on(store, path.stem.removeprefix("used-")):
                path.unlink()
    for path in (store.root / "locks").glob("use-*.lock"):
        with suppress(OSError), unheld(path) as is_free:
            if is_free and path.stat().st_mtime < before:
                path.unlink()
    sweep(store.root / "memory")


def collect_remote(remote: Remote, seconds: float, *, dry: bool = False) -> Iterator[Unused]:
    """Delete unused artifacts of a shared store, and files without a descriptor a day after they were written.

    Records of runs that ended before both, and drafts of killed processes, go with them.

    If an artifact with such a file is published at that moment, a reader detects the missing file and rebuilds it.
    """
    since = time.time() - seconds
    there = list(remote.artifacts())
    used = {key for note in remote.claims() if _time(note.get("time")) > since for key in note.get("keys", ())}
    kept = set[str]()
    for (operation, key), about in there:
        if key in used or _time(about.get("created")) > since:
            kept |= {file["sha256"] for file in about["files"].values()}
            continue
        if not dry:
            remote.remove(operation, key)
        yield Unused(operation, key, size_of(about))
    if not dry:
        remote.sweep(kept, time.time() - _DRAFTS, ended=min(since, time.time() - _DRAFTS))


def _used(store: Store, since: float) -> set[str]:
    used = set[str]()
    for path in (store.root / "memory").glob("used-*.json"):
        try:
            note: Any = read_memory(path)
            keys, at = {*note["keys"]}, _time(note["time"])
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError) as error:
            if path.stat().st_mtime <= since and not _goes_on(store, path.stem.removeprefix("used-")):
                continue
            message = f"{path} is damaged: {error}; its run may have used any artifact"
            raise MissingRequirement(message, "delete the file to let that run's artifacts go too") from error
        if at > since or _goes_on(store, path.stem.removeprefix("used-")):
            used |= keys
    return used


def _goes_on(store: Store, name: str) -> bool:
    # Whether a live process holds the run of this name: locks of dead processes are free.
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
