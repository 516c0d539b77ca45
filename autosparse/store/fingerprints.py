"""Fingerprints of files outside the store: their sha256, remembered by size and times."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from autosparse.store.files import file_digest
from autosparse.store.local import Store


def contents(folder: Path, files: Iterable[Path], *, threads: int = 1) -> dict[Path, str]:
    """Return the sha256 of files below a folder; files of the same size and times are not read again.

    Args:
        folder: Folder that names are relative to.
        files: Files below it.
        threads: Number of files read at once.

    Returns:
        Path -> sha256 as 64 hex digits, ordered by relative name.
    """
    store = Store.default()
    memory = f"contents-{hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()}"
    known = store.recall(memory) or {}
    names = {path: name_in(folder, path) for path in files}
    marks = {path: [(a := path.stat()).st_size, a.st_mtime_ns, a.st_ctime_ns] for path in names}
    digests = {path: known[name][-1] for path, name in names.items() if known.get(name, [])[:-1] == marks[path]}
    changed = [path for path in names if path not in digests]
    with ThreadPoolExecutor(threads) as pool:  # hashing releases the GIL
        digests |= zip(changed, pool.map(file_digest, changed), strict=True)
    if changed:
        entries = {name: [*marks[path], digests[path]] for path, name in names.items()}
        store.note(memory, {**known, **entries})
    return {path: digests[path] for path in sorted(names, key=names.__getitem__)}


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
