"""What files contain: names, sizes and sha256, remembered by size and times so that nothing is read twice."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from autosparse.errors import MissingRequirement
from autosparse.store.artifacts import Store


def contents(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """Name relative to `folder` -> sha256 of every file. A file of unchanged size and time is not read again."""
    store = Store.default()
    memory = f"contents-{hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()}"
    known = store.recall(memory) or {}
    paths = {path.relative_to(folder).as_posix(): path for path in files}
    # Also when it was last replaced: what is copied or unpacked over it can bring its time along.
    marks = {name: [(a := path.stat()).st_size, a.st_mtime_ns, a.st_ctime_ns] for name, path in paths.items()}
    changed = [name for name, mark in marks.items() if known.get(name, [None])[:-1] != mark]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing releases the interpreter
        found = dict(zip(changed, pool.map(lambda name: file_digest(paths[name]), changed), strict=True))
    if changed:
        entries = {name: [*mark, found.get(name) or known[name][-1]] for name, mark in marks.items()}
        with suppress(MissingRequirement):  # a cache that cannot be written: the files are read again next time
            store.remember(memory, {**known, **entries})
    return {name: found.get(name) or known[name][-1] for name in sorted(paths)}


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
