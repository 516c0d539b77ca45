"""Parquet files in the usual layout of image sets on the Hugging Face hub."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import MinLen

from autosparse.backends import usable_cores
from autosparse.borders import expand, first_line, is_out_of_memory, optional
from autosparse.datasets._base import MOST_CLASSES, Pool, Split, datasets
from autosparse.datasets.decode import encoded_split, shape_of
from autosparse.datasets.labels import IMAGE, LABEL, Classes, classes_of, features_of, hardly_repeats
from autosparse.errors import MissingData, UsageError
from autosparse.lazy_torch import numpy
from autosparse.registry import FilePath
from autosparse.regular_file import LARGEST_IMAGE, read_regular
from autosparse.store import contents, digest
from autosparse.text import listed

_PURPOSES = {"train": "train|training", "validation": "val|valid|validation|dev", "test": "test|testing"}
_SHOWN = 20  # rows that an error names
_ROWS = 1024  # rows of a file read at a time where their bytes may be absent


@datasets.register(holds=200 * 2**20)  # measured: libraries 70 MiB, and Arrow's memory pool
def parquet(
    *,
    path: Annotated[
        str | Annotated[tuple[str, ...], MinLen(1)],
        FilePath(),
        "folder, files or globs; `train`, `validation` or `test` in a file or folder name gives the split",
    ],
    image: Annotated[str, "column of the images; auto: by the metadata, by name, or the only one"] = "auto",
    label: Annotated[str, "column of the classes; auto: by the metadata, `label`, `labels` or the only one"] = "auto",
    channels: Annotated[Literal[1, 3], "1 for grey, 3 for colour"] = 3,
) -> Pool:
    """Your Parquet files of encoded images and labels, as on the Hugging Face hub (needs `autosparse[data]`)."""
    patterns = (path,) if isinstance(path, str) else path
    purposes = _files(patterns)
    files: dict[str, list[Path]] = {}
    for file, purpose in purposes.items():
        files.setdefault(purpose or "train", []).append(file)
    if "train" not in files:
        problem = (
            f"no Parquet file for training at {', '.join(patterns)}",
            "set `dataset.path` to the folder of a set, fetched such as by "
            "`hf download uoft-cs/cifar10 --repo-type dataset --local-dir data/cifar10`",
        )
        return Pool.absent({"name": "parquet", "missing": list(patterns)}, channels, problem)
    with _opened(file := files["train"][0]) as opened:  # the first training file decides for all files
        schema = opened.schema_arrow
    columns = IMAGE.choose(schema, image, file), LABEL.choose(schema, label, file)
    tables = {purpose: [_Table.of(file, *columns) for file in part] for purpose, part in files.items()}
    every = [table for part in tables.values() for table in part]
    if not any(table.rows for table in tables["train"]):
        raise UsageError(f"{every[0].file} has no rows")
    classes = _classes(tables)
    reading = f"column `{columns[0]}` holds the images, `{columns[1]}` the labels"
    # A set with validation images only keeps its test labels private: test on its validation images.
    if "test" not in tables and "validation" in tables:
        tables["test"] = tables.pop("validation")
        reading += ", tested on the validation images"

    return Pool(
        identity={**_identity(tables, columns, channels), **classes.identity},
        shape=shape_of((image for table in tables["train"] for image in table.images()), channels),
        classes=classes.names,
        images=Counter({purpose: sum(table.rows for table in part) for purpose, part in tables.items()}),
        load=lambda size: {purpose: _split(part, classes, channels, size) for purpose, part in tables.items()},
        reading=reading,
        warnings=(*_unnamed(patterns, purposes), *classes.warnings),
    )


@dataclass(frozen=True)
class _Table:
    # One file, the columns to read, and the facts of its schema.
    file: Path
    image: str
    label: str
    rows: int
    names: tuple[str, ...] | None
    """class names in the file's metadata, if any"""
    outside: tuple[Path, ...]
    """image files named by rows in place of bytes, in row order"""

    @classmethod
    def of(cls, file: Path, image: str, label: str) -> _Table:
        with _opened(file) as opened:
            schema, rows = opened.schema_arrow, opened.metadata.num_rows
            IMAGE.check(schema, image, file)
            LABEL.check(schema, label, file)
            names = features_of(schema, file).get(label, {}).get("names")
            if names is not None and not (isinstance(names, list) and len(names) <= MOST_CLASSES):
                raise UsageError(f"the `huggingface` metadata of {file} lists no names of classes")
            outside = tuple(_outside(opened, image, file)) if _lacks_bytes(opened, image) else ()
        return cls(file, image, label, rows, tuple(names) if names else None, outside)

    def images(self) -> Iterator[tuple[str, bytes]]:
        with _opened(self.file) as opened:
            for number, batch in enumerate(opened.iter_batches(batch_size=1, columns=[self.image])):
                yield f"image {number} of {self.file}", _bytes(batch.column(0)[0].as_py(), self.file)

    def labels(self) -> list[Any]:
        values: list[Any] = _arrow().read_table(self.file, columns=[self.label]).column(self.label).to_pylist()
        if absent := [row for row, value in enumerate(values) if value is None]:
            raise UsageError(f"{self.file} has no {self.label!r} in {_rows(absent)}", "remove rows without a label")
        return values


def _arrow() -> Any:
    with optional("pyarrow", purpose="dataset `parquet`", install="'autosparse[data]'"):
        import pyarrow.parquet
    return pyarrow.parquet


def _opened(file: Path) -> Any:
    arrow = _arrow()
    try:
        return arrow.ParquetFile(file)
    except Exception as error:  # Arrow raises any type
        if is_out_of_memory(error):
            raise
        raise UsageError(f"{file} is not a Parquet file: {first_line(error)}") from error


def _files(patterns: Sequence[str]) -> dict[Path, str | None]:
    # File -> purpose, sorted by name; files without a purpose are training files.
    files: dict[Path, None] = {}
    for pattern in patterns:
        path = expand(pattern).absolute()
        if path.is_dir():
            names = [file for file in _below(path) if file.suffix == ".parquet"]
        else:
            folder = next(parent for parent in path.parents if parent.is_dir())  # its name may contain `*`
            pattern = os.path.join(glob.escape(str(folder)), path.relative_to(folder))
            names = [path] if path.is_file() else [Path(file) for file in sorted(glob.glob(pattern))]
        files |= dict.fromkeys(file for file in names if file.is_file())
    return {file: _purpose(file.relative_to(_folder(files))) for file in files}


def _below(folder: Path) -> list[Path]:
    # All files below a folder except hidden ones; symbolic links are followed, and no folder is read twice.
    files, seen = [], set()
    for here, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(here)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [Path(here, name) for name in names if not name.startswith(".")]
    return sorted(files)


def _purpose(file: Path) -> str | None:
    # By the file's name, or that of the nearest folder that names a purpose.
    for name in (file.name, *reversed(file.parent.parts)):
        for purpose, words in _PURPOSES.items():
            if re.match(rf"({words})(?![a-z])", name, re.IGNORECASE):
                return purpose
    return None


def _folder(files: Iterable[Path]) -> Path:
    return Path(os.path.commonpath([file.parent for file in files]))


def _identity(tables: Mapping[str, Sequence[_Table]], columns: tuple[str, str], channels: int) -> dict[str, Any]:
    # The content depends on the order of the digests, not on names or folders.
    every = [table for part in tables.values() for table in part]
    files = [table.file for table in every]
    digests = contents(_folder(files), files, threads=usable_cores().value)
    identity: dict[str, Any] = {
        "name": "parquet",
        "files": {purpose: [digests[table.file] for table in part] for purpose, part in tables.items()},
        "image": columns[0],
        "label": columns[1],
        "channels": channels,
    }
    if outside := [image for table in every for image in table.outside]:
        images = contents(_folder(outside), outside, threads=usable_cores().value)
        identity["images"] = digest([images[image] for image in outside])
    return identity


def _lacks_bytes(opened: Any, image: str) -> bool:
    # Statistics count the rows of a file without bytes; without statistics, read the rows.
    leaves = [opened.schema.column(number).path for number in range(len(opened.schema))]
    if f"{image}.bytes" not in leaves or f"{image}.path" not in leaves:
        return False
    leaf, about = leaves.index(f"{image}.bytes"), opened.metadata
    counts = [about.row_group(group).column(leaf).statistics for group in range(about.num_row_groups)]
    return any(count is None or not count.has_null_count or count.null_count for count in counts)


def _rows(rows: Sequence[int]) -> str:
    return f"row{'s' * (len(rows) > 1)} {listed(rows, _SHOWN)}"


def _outside(opened: Any, image: str, file: Path) -> Iterator[Path]:
    row, empty, missing = 0, list[int](), dict[int, Path]()
    for batch in opened.iter_batches(batch_size=_ROWS, columns=[image]):
        column = batch.column(0)
        values = dict(zip((field.name for field in column.type), column.flatten(), strict=True))
        for at, absent in enumerate(values["bytes"].is_null().to_pylist(), row):
            if absent:
                if not (name := values["path"][at - row].as_py()):
                    empty.append(at)
                elif not (path := _path(file, name)).is_file():
                    missing[at] = path
                else:
                    yield path
        row += len(column)
    if empty:
        has = "have" if len(empty) > 1 else "has"
        raise UsageError(f"{_rows(empty)} of {file} {has} neither the bytes nor the path of an image")
    if missing:
        several = len(missing) > 1
        raise MissingData(
            f"{_rows([*missing])} of {file} name{'s' * (not several)} the image file{'s' * several} "
            f"{listed([*missing.values()], _SHOWN)}, which {'are' if several else 'is'} missing",
            "paths are relative to the Parquet file's folder; or write the images' bytes into the file",
        )


def _path(file: Path, name: str | bytes) -> Path:
    return Path(os.path.normpath(file.parent / os.fsdecode(name)))


def _unnamed(patterns: Sequence[str], purposes: Mapping[Path, str | None]) -> list[str]:
    # Files below a named folder that are not read, and files read as training images by default.
    folders = [folder for pattern in patterns if (folder := expand(pattern)).is_dir()]
    others = [file for folder in folders for file in _below(folder) if file.suffix != ".parquet"]
    others = [file for file in others if file.suffix.lower() in (".parq", ".pq", ".parquet")]
    warnings = [f"left out: {listed(others, 3)}; names of Parquet files end in `.parquet`"] if others else []
    unnamed = [file for file, purpose in purposes.items() if purpose is None]
    if unnamed and "train" in purposes.values():
        warnings.append(f"used for training though no name says so: {listed(unnamed, 3)}")
    return warnings


def _classes(tables: Mapping[str, Sequence[_Table]]) -> Classes:
    every = [table for part in tables.values() for table in part]
    file, label, names = every[0].file, every[0].label, every[0].names
    if other := next((table for table in every if table.names != names), None):
        raise UsageError(f"{other.file} names other classes than {file}", "give files of one set")
    if names is not None:
        return Classes(names, are_named=True)
    counts = {purpose: Counter(value for table in part for value in table.labels()) for purpose, part in tables.items()}
    if hardly_repeats(counts["train"]):
        raise UsageError(
            f"column {label!r} of {file} holds no labels: {len(counts['train']):,} different values in "
            f"{counts['train'].total():,} training images",
            "name the column of the classes in `dataset.label`",
        )
    return classes_of(counts, f"column `{label}` of {file.name}" if len(every) == 1 else f"column `{label}`")


def _split(tables: Sequence[_Table], classes: Classes, channels: int, size: int | None) -> Split:
    labels = [number for table in tables for number in classes.numbers_of(table.labels(), str(table.file))]
    columns = [_arrow().read_table(table.file, columns=[table.image]).column(table.image) for table in tables]
    starts = numpy.cumsum([0, *(len(column) for column in columns)])

    def encoded(index: int) -> tuple[str, bytes]:
        at = int(numpy.searchsorted(starts, index, side="right")) - 1
        row = index - int(starts[at])
        return f"image {row} of {tables[at].file}", _bytes(columns[at][row].as_py(), tables[at].file)

    return encoded_split(encoded, numpy.asarray(labels, dtype="int64"), channels, size)


def _bytes(value: Any, file: Path) -> bytes:
    if isinstance(value, dict) and value["bytes"] is None and value.get("path"):
        path = _path(file, value["path"])
        try:
            return read_regular(path, most=LARGEST_IMAGE)
        except OSError as error:
            raise MissingData(f"{path} cannot be read: {error.strerror}") from error
    data = value["bytes"] if isinstance(value, dict) else value
    return data or b""
