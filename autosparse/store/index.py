"""Descriptors of all artifacts in one file: a plan reads it instead of opening thousands.

The artifacts are authoritative. Each opening compares the index with them; it can be deleted at any time.
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
from autosparse.store.descriptor import DESCRIPTOR, size_of
from autosparse.store.local import Store

_MEMORY = "index-1"
"""Key -> write time of the descriptor, and step, bytes and text of its record; the number is the format version."""


@dataclass(frozen=True)
class Record:
    """Indexed artifact: the step that made it, and its descriptor without the list of files."""

    operation: str
    key: str
    step: str
    bytes: int
    _text: str

    @cached_property
    def about(self) -> Mapping[str, Any]:
        """Descriptor fields: version, options, inputs (role -> key), environment, seconds, created, and more."""
        try:
            about: Mapping[str, Any] = json.loads(self._text)
            return {**about, "options": about["options"], "inputs": about["inputs"]}
        except (ValueError, KeyError, TypeError):  # a damaged index: the record belongs to no step
            return {"options": {}, "inputs": {}}

    @property
    def inputs(self) -> Mapping[str, str]:
        inputs: Mapping[str, str] = self.about["inputs"]
        return inputs


class Index:
    """Artifacts of a store as of the opening of the index."""

    def __init__(self, records: Mapping[str, Record]) -> None:
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def find(self, key: str) -> Record | None:
        """Return the record of an artifact, or None for an unknown key."""
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
        """Kind of work -> the records of its finished steps, the latest first."""
        by_kind: dict[str, list[Record]] = {}
        for record in self._latest_first:
            work = record.about.get("work")
            if isinstance(work, dict) and "seconds" in record.about:
                by_kind.setdefault(work.get("kind", ""), []).append(record)
        return by_kind


def open_index(store: Store) -> Index:
    """Return the updated index of a store; where it cannot be written to disk, new artifacts are read every time."""
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
    # Operation and key -> write time of the descriptor.
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
    # Fields of a record; None for a damaged artifact, which a run detects.
    try:
        about = dict(store.open(operation, key).descriptor)
    except DamagedArtifact:
        return None
    size = size_of(about)
    del about["files"], about["consumed"]
    return about["step"], size, json.dumps(about, sort_keys=True)
