"""Fingerprints of files outside the store: their sha256, remembered by size and times."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field

from autosparse.errors import MissingData
from autosparse.store.files import file_digest
from autosparse.store.local import Store
from autosparse.text import listed

Result = TypeVar("Result")
_Known = tuple[int, int, int, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]  # size, times, sha256
_SHOWN = 50  # files that an error names


def contents(folder: Path, files: Iterable[Path], *, threads: int = 1) -> dict[Path, str]:
    """Return the sha256 of files below a folder; files of the same size and times are not read again.

    Args:
        folder: Folder that names are relative to.
        files: Files below it.
        threads: Number of files read at once.

    Returns:
        Path -> sha256 as 64 hex digits, ordered by relative name.

    Raises:
        MissingData: If files cannot be read; the error names all of them.
    """
    store = Store.default()
    memory = f"contents-{hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()}"
    known = store.recall(memory, dict[str, _Known]) or {}
    names = {path: name_in(folder, path) for path in files}
    marks: dict[Path, list[int]] = _read(names, _mark, map)
    digests = {path: known[name][-1] for path, name in names.items() if [*known.get(name, ())][:-1] == marks[path]}
    changed = [path for path in names if path not in digests]
    with ThreadPoolExecutor(threads) as pool:  # hashing releases the GIL
        digests |= _read(changed, file_digest, pool.map)
    if changed:
        entries = {name: [*marks[path], digests[path]] for path, name in names.items()}
        store.note(memory, {**known, **entries})
    return {path: digests[path] for path in sorted(names, key=names.__getitem__)}


def _mark(path: Path) -> list[int]:
    about = path.stat()
    return [about.st_size, about.st_mtime_ns, about.st_ctime_ns]


def _read(
    paths: Iterable[Path], read: Callable[[Path], Result], mapped: Callable[..., Iterable[Result | None]]
) -> dict[Path, Result]:
    # The value of each file. Raises MissingData for all files that cannot be read.
    broken: dict[Path, OSError] = {}

    def attempt(path: Path) -> Result | None:
        try:
            return read(path)
        except OSError as error:
            broken[path] = error
            return None

    files = [*paths]
    values = dict(zip(files, mapped(attempt, files), strict=True))
    if broken:
        named = [f"{path} ({broken[path].strerror})" for path in files if path in broken]
        count = f"{len(broken):,} of {len(files):,} files cannot be read: " if len(broken) > 1 else ""
        verb = "" if count else " cannot be read"
        raise MissingData(f"{count}{listed(named, _SHOWN)}{verb}", "make them readable, or remove them")
    return {path: value for path, value in values.items() if value is not None}


def name_in(folder: Path, path: Path) -> str:
    """Return a path relative to a folder, equal on every operating system.

    Args:
        folder: Folder above the path.
        path: Absolute path, or one relative like the folder.

    Returns:
        The relative path with slashes; bytes that are not UTF-8 are escaped.

    Examples:
        >>> name_in(Path("images"), Path("images/cats/1.png"))
        'cats/1.png'
    """
    name = path.relative_to(folder).as_posix()
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
