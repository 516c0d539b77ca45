"""Free disk space, compared with a plan's new artifacts and with the copies of its emitted models."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from autosparse.cost.fitted import Fitted
from autosparse.errors import FitError
from autosparse.planning.status import SHARED
from autosparse.steps.emit import EmitResult
from autosparse.store import Store
from autosparse.text import size

_CLOSE = 0.8  # share of the free space from which a plan warns
_FILES = 8  # files, folders and locks of one artifact, at most
_ELSEWHERE = "name a folder on another disk in `AUTOSPARSE_CACHE_DIR`"


@dataclass(frozen=True)
class Volume:
    """File system of a folder: an identifier, free bytes, free files (infinite without a limit), and its mode."""

    device: int
    free: int
    files: float
    is_writable: bool


def volume_of(folder: Path) -> Volume:
    """Return the file system of a folder, or of its nearest parent that exists. A user's quota is not part of it."""
    folder = folder.absolute()
    here = next((path for path in (folder, *folder.parents) if os.path.exists(path)), folder)
    files = math.inf
    if hasattr(os, "statvfs"):
        about = os.statvfs(here)
        files = about.f_favail if about.f_files else math.inf  # some file systems have no table of files
    return Volume(here.stat().st_dev, shutil.disk_usage(here).free, files, os.access(here, os.W_OK | os.X_OK))


def check_disk(fitted: Fitted, store: Store, folder: Path, volume: Callable[[Path], Volume] = volume_of) -> Fitted:
    """Return the plan with its free disk space, and with a problem or a note where it is too small, or almost.

    An artifact is drafted on the file system of the cache and moved: it takes its space once. `folder` is the run
    folder, or its parent; the report copies all emitted models into it.
    """
    if not fitted.to_run or (fitted.plan.spec.target.elsewhere and store.url):  # else every machine has its cache
        return fitted
    cache, out = volume(store.root), volume(folder)
    fitted = replace(fitted, disk_free_bytes=cache.free)
    if not cache.is_writable:
        note = f"the cache {store.root} is not writable, so that a run would stop at its first step; {_ELSEWHERE}"
        return replace(fitted, notes=(*fitted.notes, note))
    checks = [*_checks(fitted, store.root, cache, folder.absolute(), out)]
    for one in checks:
        if one.need > one.free:
            problem = FitError(f"the plan does not fit the disk: {one.text}", one.hint)
            return replace(fitted, problem=fitted.problem or problem)
    notes = [f"the disk will be almost full: {one.text}; {one.hint}" for one in checks if one.need > _CLOSE * one.free]
    return replace(fitted, notes=(*fitted.notes, *notes))


@dataclass(frozen=True)
class _Check:
    need: float
    free: float
    text: str
    hint: str


def _checks(fitted: Fitted, root: Path, cache: Volume, folder: Path, out: Volume) -> Iterator[_Check]:
    names = fitted.to_run
    fetched = [name for name, status in fitted.statuses.items() if status.reason == SHARED]
    new = fitted.price.of([*names, *fetched]).disk_bytes
    finishes = len(fitted.statuses) == len(fitted.plan.steps)  # else the run has no folder
    emitted = [step.name for step in fitted.plan.of(EmitResult) if finishes]
    copies = fitted.price.of(emitted).disk_bytes
    subject = "new artifacts"
    if cache.device == out.device and copies:
        new, subject = new + copies, "new artifacts and the copies of emitted models"
    yield _Check(
        new,
        cache.free,
        f"{subject} take about {size(new)}, and the cache {root} has {size(cache.free)} free",
        f"`autosparse cache gc` deletes unused artifacts; or {_ELSEWHERE}",
    )
    yield _Check(
        copies,
        out.free,
        f"copies of emitted models take about {size(copies)}, and {folder} has {size(out.free)} free",
        "name a run folder on another disk with `--out`",
    )
    files = _FILES * len(names)
    text = f"new artifacts are about {files:,} files, and the disk of the cache {root} has room for {cache.files:,.0f}"
    yield _Check(files, cache.files, text, _ELSEWHERE)
