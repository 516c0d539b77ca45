"""Fingerprints of files: SHA-256, cached by name, size and times."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from autosparse.errors import MissingRequirement
from autosparse.store.files import file_digest
from autosparse.store.local import Store


def contents(folder: Path, files: Iterable[Path]) -> dict[Path, str]:
    """sha256 of every file, in the order of their names; all lie below `folder`. What is unchanged is not read again.

    A file is taken to be unchanged while its size, and when it was written and last replaced, are what they were.
    """
    store = Store.default()
    memory = f"contents-{hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()}"
    known = store.recall(memory) or {}
    names = {path: name_in(folder, path) for path in files}
    marks = {path: [(a := path.stat()).st_size, a.st_mtime_ns, a.st_ctime_ns] for path in names}
    digests = {path: known[name][-1] for path, name in names.items() if known.get(name, [])[:-1] == marks[path]}
    changed = [path for path in names if path not in digests]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing releases the interpreter
        digests |= zip(changed, pool.map(file_digest, changed), strict=True)
    if changed:
        entries = {name: [*marks[path], digests[path]] for path, name in names.items()}
        with suppress(MissingRequirement):  # a cache that cannot be written: the files are read again next time
            store.remember(memory, {**known, **entries})
    return {path: digests[path] for path in sorted(names, key=names.__getitem__)}


def name_in(folder: Path, path: Path) -> str:
    """A path relative to a folder, alike on every system; what is not UTF-8 in it is escaped."""
    name = path.relative_to(folder).as_posix()
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
