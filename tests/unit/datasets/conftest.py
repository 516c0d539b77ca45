"""Fixtures of the tests of datasets: a separate cache, and files to read."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image

from autosparse.datasets import Source, Splits


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and an empty directory to be in."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(folder))
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    return folder


def picture(color: Any = (200, 10, 30), size: tuple[int, int] = (6, 4), kind: str = "PNG", mode: str = "RGB") -> bytes:
    """The file of a picture of one colour; `size` is width and height."""
    file = io.BytesIO()
    Image.new(mode, size, color).save(file, kind)
    return file.getvalue()


def write_pictures(root: Path, images: Mapping[str, int], size: tuple[int, int] = (6, 4)) -> Path:
    """Folder -> how many PNG files to write there, every one different."""
    for at, (folder, count) in enumerate(sorted(images.items())):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            color = (at, number // 256, number % 256)
            (root / folder / f"{number:04d}.png").write_bytes(picture(color, size))
    return root


def write_parquet(path: Path, rows: Mapping[str, Any], names: Any = None, label: str = "label") -> Path:
    """A Parquet file with columns; `names` of the classes as the Hugging Face hub writes them."""
    import json

    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table(dict(rows))
    if names is not None:
        about = {"info": {"features": {label: {"names": names, "_type": "ClassLabel"}, "image": {"_type": "Image"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path)
    return path


def encoded(count: int, first: int = 0) -> list[dict[str, Any]]:
    """A column of different pictures as the Hugging Face hub has them."""
    return [
        {"bytes": picture((number // 256, number % 256, 9)), "path": None} for number in range(first, first + count)
    ]


def load_all(source: Source) -> Splits:
    """The splits of a source, every image of them read."""
    splits = source.load()
    for purpose in ("train", "validation", "test"):
        everything(splits[purpose])
    return splits


def everything(split: Any) -> Any:
    """All pixels of a split."""
    return split.read(numpy.arange(len(split.labels)))
