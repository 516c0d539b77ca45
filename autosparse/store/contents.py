"""What files contain: names, sizes and sha256, remembered by size and time so that nothing is read twice."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from autosparse.errors import MissingRequirement
from autosparse.store.artifacts import Store
from autosparse.store.canonical import digest, file_digest


def contents(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """Name relative to `folder` -> sha256 of every file. A file of unchanged size and time is not read again."""
    store = Store.default()
    memory = f"contents-{digest(os.fspath(folder.absolute()))}"
    known = store.recall(memory) or {}
    paths = {path.relative_to(folder).as_posix(): path for path in files}
    marks = {name: [(about := path.stat()).st_size, about.st_mtime_ns] for name, path in paths.items()}
    changed = [name for name, mark in marks.items() if known.get(name, [None])[:2] != mark]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing releases the interpreter
        found = dict(zip(changed, pool.map(lambda name: file_digest(paths[name]), changed), strict=True))
    if changed:
        entries = {name: [*mark, found.get(name) or known[name][2]] for name, mark in marks.items()}
        with suppress(MissingRequirement):  # a cache that cannot be written: the files are read again next time
            store.remember(memory, {**known, **entries})
    return {name: found.get(name) or known[name][2] for name in sorted(paths)}
