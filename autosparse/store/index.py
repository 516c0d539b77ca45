"""The descriptors of all artifacts in one file: a plan reads it instead of opening thousands.

The artifacts are the truth. The index is compared with them whenever it is opened, and can be deleted at any time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from autosparse.errors import DamagedArtifact
from autosparse.store.artifact import DESCRIPTOR, size_of
from autosparse.store.local import Store

_MEMORY = "index-1"
"""Key -> when the descriptor was written, and step, bytes and text of its record; the number is the form's version."""


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
    """Return the index of a store, brought up to date; what is new is read again where it cannot be kept on disk."""
    recalled = store.recall(_MEMORY)
    known = recalled if isinstance(recalled, dict) else {}
    entries: dict[str, list[Any]] = {}
    records: dict[str, Record] = {}
    for (operation, key), marked in sorted(_present(store.root).items()):
        match known.get(key):
            case [seen, str(), int(), str()] as entry if seen == marked:
                entries[key] = entry
            case _ if fields := _fields(store, operation, key):
                entries[key] = [marked, *fields]
            case _:
                continue
        records[key] = Record(operation, key, *entries[key][1:])
    if entries != known:
        store.note(_MEMORY, entries)
    return Index(records)


def _present(root: Path) -> dict[tuple[str, str], int]:
    # Operation and key -> when the descriptor was written.
    present: dict[tuple[str, str], int] = {}
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(root / "artifacts") as operations:
        for operation in operations:
            with suppress(NotADirectoryError), os.scandir(operation.path) as folders:
                for folder in folders:
                    with suppress(OSError):  # no descriptor: not an artifact
                        marked = os.stat(os.path.join(folder.path, DESCRIPTOR)).st_mtime_ns
                        present[operation.name, folder.name] = marked
    return present


def _fields(store: Store, operation: str, key: str) -> tuple[str, int, str] | None:
    # What a record holds; None for a damaged artifact, which a run will notice.
    try:
        about = dict(store.open(operation, key).descriptor)
        size = size_of(about)
        del about["files"]
        if not isinstance(about["options"], dict) or not isinstance(about["inputs"], dict):
            return None
    except (DamagedArtifact, KeyError, TypeError):
        return None
    about.pop("consumed", None)
    return str(about.get("step", "")), size, json.dumps(about, sort_keys=True)
