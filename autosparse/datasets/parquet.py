"""Parquet files in the layout that image sets have on the Hugging Face hub."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import MinLen

from autosparse.datasets import datasets
from autosparse.datasets.pictures import encoded_split, shape_of
from autosparse.datasets.source import Pool, Problem, Split
from autosparse.errors import MissingExtra, UsageError
from autosparse.registry import FilePath
from autosparse.store import contents

_PURPOSES = {"train": "train|training", "validation": "val|valid|validation|dev", "test": "test|testing"}
_BYTES = r"(large_)?binary(_view)?|struct<(.*, )?bytes: (large_)?binary(_view)?(, .*)?>"
_LABELS = r"u?int\d+|(large_)?string(_view)?|dictionary<values=(u?int\d+|(large_)?string)\b.*"


@datasets.register(holds=200 * 2**20)  # measured: libraries 70 MiB, and the pool that Arrow keeps
def parquet(
    *,
    path: Annotated[
        str | Annotated[tuple[str, ...], MinLen(1)],
        FilePath(),
        "a folder, or files or globs: what is named train, validation or test, or in such a folder, is that split",
    ],
    image: Annotated[str, "column of the images' files; auto: the first that has them"] = "auto",
    label: Annotated[str, "column of the classes' numbers or names; auto: `label`, or the first that can be"] = "auto",
    channels: Annotated[Literal[1, 3], "1 for grey, 3 for colour"] = 3,
) -> Pool:
    """Your Parquet files of encoded images and labels, as on the Hugging Face hub (needs `autosparse[data]`)."""
    patterns = (path,) if isinstance(path, str) else path
    found = _files(patterns)
    if not found:
        return _absent(patterns, channels)
    tables = {purpose: [_Table.of(file, image, label) for file in files] for purpose, files in found.items()}
    train = tables["train"]
    every = [table for part in tables.values() for table in part]
    classes = _classes(every)
    first = next((table for table in train if table.rows), None)
    if first is None:
        raise UsageError(f"{train[0].file} has no rows")
    # A set with validation images alone keeps its test labels to itself: they are what is tested on.
    if "test" not in tables and "validation" in tables:
        tables["test"] = tables.pop("validation")
    files = [table.file for table in every]
    digests = contents(_folder(files), files)

    def load(size: int | None) -> tuple[Split, Split | None, Split | None]:
        splits = {purpose: _split(parts, classes, channels, size) for purpose, parts in tables.items()}
        return splits["train"], splits.get("validation"), splits.get("test")

    return Pool(
        # The order of the digests, not names or places, is what the content depends on.
        identity={
            "name": "parquet",
            "files": {purpose: [digests[table.file] for table in part] for purpose, part in tables.items()},
            "image": train[0].image,
            "label": train[0].label,
            "channels": channels,
        },
        shape=shape_of(first.first, channels),
        classes=classes,
        train_images=sum(table.rows for table in train),
        validation_images=sum(table.rows for table in tables.get("validation", ())),
        test_images=sum(table.rows for table in tables.get("test", ())),
        load=load,
    )


@dataclass(frozen=True)
class _Table:
    # One file: its columns, as its schema tells them.
    file: Path
    image: str
    label: str
    rows: int
    names: tuple[str, ...] | None
    """of the classes, where the file's metadata has them"""

    @classmethod
    def of(cls, file: Path, image: str, label: str) -> _Table:
        arrow = _arrow()
        try:
            opened = arrow.ParquetFile(file)
        except (OSError, ValueError) as error:
            raise UsageError(f"{file} is not a Parquet file: {error}") from error
        with opened:
            schema, rows = opened.schema_arrow, opened.metadata.num_rows
        image = _column(schema, image, "image", file)
        label = _column(schema, label, "label", file)
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        about = features.get(label)
        names = about.get("names") if isinstance(about, dict) else None
        return cls(file, image, label, rows, tuple(names) if names else None)

    def first(self, number: int) -> tuple[str, bytes]:
        with _arrow().ParquetFile(self.file) as opened:
            batch = next(opened.iter_batches(batch_size=1, columns=[self.image]))
        return f"image 0 of {self.file}", _bytes(batch.column(0)[0].as_py())

    def labels(self) -> list[Any]:
        found: list[Any] = _arrow().read_table(self.file, columns=[self.label]).column(self.label).to_pylist()
        if None in found:
            raise UsageError(f"{self.file} has no {self.label!r} in row {found.index(None)}")
        return found


def _arrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("Parquet files need pyarrow", "run `pip install 'autosparse[data]'`") from error
    return pyarrow.parquet


def _files(patterns: Sequence[str]) -> dict[str, list[Path]]:
    # Purpose -> files, in the order of their names; files of no purpose are for training.
    files: dict[Path, None] = {}
    for pattern in patterns:
        place = Path(pattern).expanduser().absolute()
        if place.is_dir():
            below = sorted(place.rglob("*.parquet"))
            names = [file for file in below if not any(p.startswith(".") for p in file.relative_to(place).parts)]
        else:
            names = [place] if place.is_file() else [Path(file) for file in sorted(glob.glob(str(place)))]
        files |= dict.fromkeys(file for file in names if file.is_file())
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(_purpose(file.relative_to(_folder(files))), []).append(file)
    return found if "train" in found else {}


def _purpose(file: Path) -> str:
    # By the file's own name, or that of the nearest folder that tells.
    for name in (file.name, *reversed(file.parent.parts)):
        for purpose, words in _PURPOSES.items():
            if re.match(rf"({words})(?![a-z])", name, re.IGNORECASE):
                return purpose
    return "train"


def _folder(files: Iterable[Path]) -> Path:
    return Path(os.path.commonpath([file.parent for file in files]))


def _absent(patterns: Sequence[str], channels: int) -> Pool:
    # Nothing is known of the set yet: what stands here makes keys that no run will ever use.

    def load(size: int | None) -> tuple[Split, None, None]:
        raise AssertionError("a missing set is never loaded")

    problem: Problem = (
        f"no Parquet file for training at {', '.join(patterns)}",
        "set `dataset.path` to the folder of a set, fetched such as by "
        "`hf download uoft-cs/cifar10 --repo-type dataset --local-dir data/cifar10`",
    )
    return Pool(
        identity={"name": "parquet", "missing": list(patterns)},
        shape=(channels, 32, 32),
        classes=(),
        train_images=0,
        load=load,
        missing=lambda: problem,
    )


def _column(schema: Any, name: str, role: str, file: Path) -> str:
    kinds = {field.name: str(field.type) for field in schema}
    fits = [n for n, kind in kinds.items() if re.fullmatch(_BYTES if role == "image" else _LABELS, kind)]
    if name == "auto":
        if not fits:
            told = ", ".join(f"{column} ({kind})" for column, kind in kinds.items())
            raise UsageError(f"{file} has no column of {role}s", f"its columns: {told}")
        return "label" if role == "label" and "label" in fits else fits[0]
    if name not in kinds:
        raise UsageError(f"{file} has no column {name!r}", f"its columns: {', '.join(kinds)}")
    if name not in fits:
        what = "encoded images" if role == "image" else "numbers or names of classes"
        raise UsageError(f"column {name!r} of {file} does not hold {what}: it is {kinds[name]}")
    return name


def _classes(tables: Sequence[_Table]) -> tuple[str, ...]:
    names = tables[0].names
    if other := next((table for table in tables if table.names != names), None):
        raise UsageError(f"{other.file} names other classes than {tables[0].file}", "give files of one set")
    if names is not None:
        return names
    values = {label for table in tables for label in table.labels()}
    if all(isinstance(value, int) for value in values):
        return tuple(str(number) for number in range(max(values) + 1))
    return tuple(sorted(map(str, values)))


def _split(tables: Sequence[_Table], classes: Sequence[str], channels: int, size: int | None) -> Split:
    import numpy

    number: dict[Any, int] = {key: at for at, name in enumerate(classes) for key in (at, name)}
    labels = []
    for table in tables:
        found = table.labels()
        if unknown := set(found) - set(number):
            raise UsageError(f"{table.file} has label {unknown.pop()!r}, which is none of its {len(classes)} classes")
        labels += [number[value] for value in found]
    columns = [_arrow().read_table(table.file, columns=[table.image]).column(table.image) for table in tables]
    starts = numpy.cumsum([0, *(len(column) for column in columns)])

    def encoded(place: int) -> tuple[str, bytes]:
        at = int(numpy.searchsorted(starts, place, side="right")) - 1
        row = place - int(starts[at])
        return f"image {row} of {tables[at].file}", _bytes(columns[at][row].as_py())

    return encoded_split(encoded, numpy.asarray(labels, dtype="int64"), channels, size)


def _bytes(value: Any) -> bytes:
    data = value.get("bytes") if isinstance(value, dict) else value
    return data or b""
