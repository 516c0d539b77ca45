"""The descriptors of artifacts in one small database: a plan asks it instead of opening thousands of files.

The artifacts are the truth. The index is compared with them whenever it is opened, and can be deleted at any time.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from autosparse.errors import DamagedArtifact
from autosparse.store.artifact import DESCRIPTOR, size_of
from autosparse.store.local import Store

_VERSION = 1
_TABLE = (
    "create table if not exists artifacts "
    "(operation text, key text primary key, step text, marked integer, bytes integer, about text) without rowid"
)


@dataclass(frozen=True)
class Record:
    """One artifact: the step that it was made by, and its descriptor without the list of files."""

    operation: str
    key: str
    step: str
    bytes: int
    _text: str

    @cached_property
    def about(self) -> Mapping[str, Any]:
        """version, options, inputs (role -> key), environment, seconds, created, and what else was recorded."""
        try:
            about: Mapping[str, Any] = json.loads(self._text)
            return {**about, "options": about["options"], "inputs": about["inputs"]}
        except (ValueError, KeyError, TypeError):  # a damaged index: what it says is of no step
            return {"options": {}, "inputs": {}}

    @property
    def inputs(self) -> Mapping[str, str]:
        inputs: Mapping[str, str] = self.about["inputs"]
        return inputs


class Index:
    """The artifacts of a store as they were when the index was opened."""

    def __init__(self, records: Mapping[str, Record]) -> None:
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def find(self, key: str) -> Record | None:
        """The record of an artifact, or None when there is none of this key."""
        return self._records.get(key)

    @cached_property
    def _latest_first(self) -> list[Record]:
        return sorted(self, key=lambda record: (record.about.get("created", ""), record.key), reverse=True)

    @cached_property
    def operations(self) -> Mapping[str, list[Record]]:
        """Operation -> its records, the latest first."""
        by_operation: dict[str, list[Record]] = {}
        for record in self._latest_first:
            by_operation.setdefault(record.operation, []).append(record)
        return by_operation

    @cached_property
    def kinds(self) -> Mapping[str, list[Record]]:
        """Kind of work -> the records of finished steps that did it, the latest first."""
        by_kind: dict[str, list[Record]] = {}
        for record in self._latest_first:
            work = record.about.get("work")
            if isinstance(work, dict) and "seconds" in record.about:
                by_kind.setdefault(work.get("kind", ""), []).append(record)
        return by_kind


def open_index(store: Store) -> Index:
    """The index of a store, brought up to date. Where it cannot be kept on disk it is made anew in memory."""
    path = store.root / "index.sqlite"
    present = _present(store.root)
    if not present:
        return Index({})
    for _ in range(2):
        try:
            return _synchronized(store, str(path), present)
        except (sqlite3.OperationalError, OSError):  # locked by another process, or on a disk that cannot be written
            break
        except sqlite3.Error:  # damaged, or of another program: it holds nothing that cannot be found again
            for suffix in ("", "-wal", "-shm"):
                with suppress(OSError):
                    path.with_name(path.name + suffix).unlink()
    return _synchronized(store, ":memory:", present)


def _present(root: Path) -> dict[str, tuple[str, int]]:
    # key -> operation, and when its descriptor was written.
    present: dict[str, tuple[str, int]] = {}
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(root / "artifacts") as operations:
        for operation in operations:
            with suppress(NotADirectoryError), os.scandir(operation.path) as folders:
                for folder in folders:
                    with suppress(OSError):  # no descriptor: not an artifact
                        marked = os.stat(os.path.join(folder.path, DESCRIPTOR)).st_mtime_ns
                        present[folder.name] = (operation.name, marked)
    return present


def _synchronized(store: Store, path: str, present: Mapping[str, tuple[str, int]]) -> Index:
    with closing(sqlite3.connect(path, timeout=10)) as base:
        if base.execute("pragma user_version").fetchone()[0] != _VERSION:
            base.execute("drop table if exists artifacts")
            base.execute(f"pragma user_version = {_VERSION}")
        base.execute("pragma journal_mode = wal")
        base.execute("pragma synchronous = normal")
        base.execute(_TABLE)
        known = dict(base.execute("select key, marked from artifacts"))
        gone = [(key,) for key in known if key not in present]
        new = [row for key in present if known.get(key) != present[key][1] and (row := _row(store, key, present[key]))]
        if gone or new:
            with base:
                base.executemany("delete from artifacts where key = ?", gone)
                base.executemany("insert or replace into artifacts values (?, ?, ?, ?, ?, ?)", new)
        rows = base.execute("select operation, key, step, bytes, about from artifacts order by operation, key")
        return Index({key: Record(operation, key, step, size, text) for operation, key, step, size, text in rows})


def _row(store: Store, key: str, location: tuple[str, int]) -> tuple[str, str, str, int, int, str] | None:
    operation, marked = location
    try:
        about = dict(store.open(operation, key).descriptor)
        size = size_of(about)
        del about["files"]
        if not isinstance(about["options"], dict) or not isinstance(about["inputs"], dict):
            return None
    except (DamagedArtifact, KeyError, TypeError):
        return None  # a run will see
    about.pop("consumed", None)
    return operation, key, str(about.get("step", "")), marked, size, json.dumps(about, sort_keys=True)
