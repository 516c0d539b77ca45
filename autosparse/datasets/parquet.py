"""Parquet files in the layout that image sets have on the Hugging Face hub."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import MinLen

from autosparse.datasets import datasets
from autosparse.datasets.pictures import concatenated, encoded_split, shape_of
from autosparse.datasets.source import Pool, Problem, Split
from autosparse.errors import MissingExtra, UsageError
from autosparse.registry import FilePath
from autosparse.store import contents

if TYPE_CHECKING:
    pass

_PURPOSES = {"train": r"train", "validation": r"val|valid|validation|dev", "test": r"test"}


@datasets.register
def parquet(
    *,
    path: Annotated[
        str | Annotated[tuple[str, ...], MinLen(1)],
        FilePath(),
        "a folder, or files or globs: those whose names begin with train, validation or test are those splits",
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
    classes = _classes(concatenated(list(tables.values())))
    # A set with validation images alone keeps its test labels to itself: they are what is tested on.
    if "test" not in tables and "validation" in tables:
        tables["test"] = tables.pop("validation")
    folder = Path(os.path.commonpath([file.parent for files in found.values() for file in files]))
    digests = contents(folder, concatenated(list(found.values())))

    def load(size: int | None) -> tuple[Split, Split | None, Split | None]:
        splits = {purpose: _split(parts, classes, channels, size) for purpose, parts in tables.items()}
        return splits["train"], splits.get("validation"), splits.get("test")

    return Pool(
        # The order of the digests, not names or places, is what the content depends on.
        identity={
            "name": "parquet",
            "files": {
                purpose: [digests[t.file.relative_to(folder).as_posix()] for t in ts] for purpose, ts in tables.items()
            },
            "image": train[0].image,
            "label": train[0].label,
            "channels": channels,
        },
        shape=shape_of(train[0].first, channels),
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
        names = features.get(label, {}).get("names")
        return cls(file, image, label, rows, tuple(names) if names else None)

    def first(self, number: int) -> tuple[str, bytes]:
        with _arrow().ParquetFile(self.file) as opened:
            batch = next(opened.iter_batches(batch_size=1, columns=[self.image]))
        return f"image 0 of {self.file}", _bytes(batch.column(0)[0].as_py())

    def labels(self) -> list[Any]:
        found: list[Any] = _arrow().read_table(self.file, columns=[self.label]).column(self.label).to_pylist()
        return found


def _arrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("Parquet files need pyarrow", "run `pip install 'autosparse[data]'`") from error
    return pyarrow.parquet


def _files(patterns: Sequence[str]) -> dict[str, list[Path]]:
    # Purpose -> files, in the order of their names; files of no purpose are for training.
    found: dict[str, list[Path]] = {}
    for pattern in patterns:
        place = Path(pattern).expanduser()
        names = sorted(place.rglob("*.parquet")) if place.is_dir() else map(Path, sorted(glob.glob(str(place))))
        for file in names:
            purpose = next(
                (p for p, words in _PURPOSES.items() if re.match(rf"({words})\b|({words})[-_.]", file.name)), "train"
            )
            if file not in found.setdefault(purpose, []):
                found[purpose].append(file)
    return found if "train" in found else {}


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
    if name != "auto":
        if name not in schema.names:
            raise UsageError(f"{file} has no column {name!r}", f"its columns: {', '.join(schema.names)}")
        return name
    fits: list[str]
    kinds = {field.name: str(field.type) for field in schema}
    if role == "image":
        fits = [n for n, kind in kinds.items() if kind in ("binary", "large_binary") or "bytes: binary" in kind]
    else:
        fits = [
            n for n, kind in kinds.items() if kind.startswith(("int", "uint", "string", "large_string", "dictionary"))
        ]
        fits = [n for n in fits if n == "label"] or fits
    if not fits:
        raise UsageError(f"{file} has no column of {role}s", f"name it: `dataset.{role}`; there are {', '.join(kinds)}")
    return fits[0]


def _classes(tables: Sequence[_Table]) -> tuple[str, ...]:
    if (names := tables[0].names) is not None:
        return names
    values = set(concatenated([table.labels() for table in tables]))
    if None in values:
        raise UsageError(f"column {tables[0].label!r} has rows without a label")
    if all(isinstance(value, int) for value in values):
        return tuple(str(number) for number in range(max(values) + 1))
    return tuple(sorted(map(str, values)))


def _split(tables: Sequence[_Table], classes: Sequence[str], channels: int, size: int | None) -> Split:
    import numpy

    number = {name: at for at, name in enumerate(classes)}
    labels = [value if isinstance(value, int) else number[str(value)] for t in tables for value in t.labels()]
    if labels and not 0 <= min(labels) <= max(labels) < len(classes):
        raise UsageError(f"{tables[0].file} has a label outside its {len(classes)} classes")
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
