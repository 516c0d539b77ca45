"""Scans of datasets: contents by split, every broken image, and equal images."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image

from autosparse.datasets import open_source
from autosparse.datasets.scan import Scan, scan_source
from autosparse.errors import MissingData, StepError, UsageError
from tests.unit.datasets.conftest import encoded, load_all, picture, write_parquet, write_pictures


def huge_png() -> bytes:
    """A file of few bytes whose header promises 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


def file_of(array: Any, kind: str) -> bytes:
    """The file of an array's picture."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


def moving_gif() -> bytes:
    """The file of three frames."""
    file = io.BytesIO()
    frames = [Image.new("P", (6, 4), number) for number in range(3)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


BROKEN = {
    "cut.jpg": (picture(kind="JPEG", size=(64, 64))[:300], "Truncated|truncated"),
    "empty.png": (b"", "it is empty"),
    "text.png": (b"a text", "its image format is unknown"),
    "huge.png": (huge_png(), "exceeds limit"),
    "float.tiff": (file_of(numpy.ones((4, 6), "int32") * 70_000, "TIFF"), "32 bits without a known range"),
}
UNUSUAL = {
    "cmyk.jpg": (picture((1, 2, 3, 4), kind="JPEG", mode="CMYK"), "CMYK"),
    "deep.png": (file_of(numpy.ones((4, 6), "uint16") * 40_000, "PNG"), "I;16"),
    "moving.gif": (moving_gif(), "P"),
}  # fmt: skip


def photos(**options: Any) -> Scan:
    """The scan of `photos` in the current directory."""
    return scan_source(open_source("image_folder", {"root": "photos", **options}))


def counted(scan: Scan, name: str) -> int:
    """The sum of one count over all splits, such as of a mode."""
    return sum(one.modes.get(name, 0) + one.classes.get(name, 0) for one in scan.splits)


def test_every_broken_image_is_listed() -> None:
    """With its name and reason, the first image of the set and several kinds of damage among them; exit code 5."""
    write_pictures(Path("photos"), {"a": 20, "b": 20})
    for name, (data, _) in BROKEN.items():
        Path("photos/a", f"0{name}").write_bytes(data)
    Path("photos/a/0000.png").write_bytes(b"")
    scan = photos()

    named = {Path(broken.name).name for broken in scan.broken}
    assert {*(f"0{name}" for name in BROKEN), "0000.png"} == named
    for broken in scan.broken:
        name = Path(broken.name).name
        expected = BROKEN["empty.png" if name == "0000.png" else name[1:]][1]
        assert any(part in broken.reason for part in expected.split("|"))
    with pytest.raises(MissingData, match="6 of 45 images cannot be read"):
        scan.check()
    assert 5 == MissingData.exit_code


def test_a_set_of_broken_images_alone_has_no_shape() -> None:
    """A plan needs one image that can be decoded."""
    write_pictures(Path("photos"), {"a": 20, "b": 20})
    for path in Path("photos").glob("*/*.png"):
        path.write_bytes(b"")

    with pytest.raises(
        StepError, match=r"none of 40 images can be decoded: .*0000.png cannot be decoded: it is empty"
    ) as caught:
        photos()

    assert "0004.png" in caught.value.message
    assert "remove or replace broken files" == caught.value.hint  # without a plan there is no scan


def test_unusual_images_are_no_problem() -> None:
    """Their formats are counted."""
    write_pictures(Path("photos"), {"a": 20, "b": 20})
    for name, (data, _) in UNUSUAL.items():
        Path("photos/a", name).write_bytes(data)
    scan = photos()
    scan.check()

    assert not scan.broken
    assert 40 == counted(scan, "RGB")
    for _, mode in UNUSUAL.values():
        assert counted(scan, mode) == 1


def test_a_split_is_described() -> None:
    """Number of images, sizes, and images of every class in the order of the labels."""
    write_pictures(Path("photos"), {"train/a": 30, "train/b": 20, "test/a": 4}, size=(6, 4))
    Path("photos/train/b/large.png").write_bytes(picture(size=(60, 40)))
    scan = photos(validation=5)
    train, validation, test = scan.splits
    large = next(one.sizes for one in (train, validation) if one.sizes and one.sizes.different > 1)

    assert [46, 5, 4] == [one.images for one in scan.splits]
    assert (6, 4) == large.smallest == large.most_common
    assert (60, 40) == large.largest
    assert {"a": 4, "b": 0} == test.classes
    assert 30 == train.classes["a"] + validation.classes["a"]
    assert scan.differs_in_size
    assert not photos(validation=5, size=8).differs_in_size


def test_equal_images_are_paired() -> None:
    """Between training and test images, and within a split under two labels."""
    write_pictures(Path("photos"), {"train/a": 20, "train/b": 20, "test/a": 2, "test/b": 2})
    data = picture((9, 9, 9))
    for name in ("train/a/x.png", "train/b/y.png", "test/a/z.png"):
        Path("photos", name).write_bytes(data)
    Path("photos/val").mkdir()
    write_pictures(Path("photos/val"), {"a": 1, "b": 1})
    Path("photos/val/a/0000.png").write_bytes(picture((99, 1, 1)))
    Path("photos/val/b/0000.png").write_bytes(picture((99, 2, 1)))
    equal = {one.splits: one for one in photos().equal}

    assert (1, 1) == (equal["train", "train"].images, equal["train", "train"].conflicting)
    assert {"x.png", "y.png"} == {Path(name).name for name in equal["train", "train"].pairs[0]}
    assert ("train", "test") in equal
    assert "z.png" in {Path(pair[1]).name for pair in equal["train", "test"].pairs}


def test_rows_without_an_image_are_listed() -> None:
    """A Parquet file names its rows."""
    rows = encoded(40)
    rows[7] = rows[11] = {"bytes": b"", "path": None}
    write_parquet(Path("set/train.parquet"), {"image": rows, "label": [0, 1] * 20})
    scan = scan_source(open_source("parquet", {"path": "set"}))

    assert {7, 11} == {int(broken.name.split()[1]) for broken in scan.broken}
    assert {"it is empty"} == {broken.reason for broken in scan.broken}


@pytest.mark.parametrize(
    ("rows", "names", "message"),
    [
        ({"image": encoded(6), "label": [0, None, 1, None, 0, 1]}, None, "no 'label' in rows 1, 3"),
        ({"image": encoded(6), "label": [0, 7, 1, 9, 0, 1]}, ["a", "b"], "labels 7, 9 but 2 classes"),
        ({"image": [*encoded(4), *[{"bytes": None, "path": None}] * 2], "label": [0, 1] * 3}, None, "rows 4, 5 of"),
        ({"image": [*encoded(4), *[{"bytes": None, "path": "x.png"}] * 2], "label": [0, 1] * 3}, None, "rows 4, 5 of"),
    ],
)
def test_every_row_without_label_or_image_is_named(rows: Any, names: Any, message: str) -> None:
    """Not only the first one."""
    write_parquet(Path("set/train.parquet"), rows, names)

    with pytest.raises((UsageError, MissingData), match=message):
        scan_source(open_source("parquet", {"path": "set"}))


def test_a_run_names_several_broken_images() -> None:
    """Reading a split fails with the number of broken images, their first names, and the command that lists all."""
    write_pictures(Path("photos"), {"a": 30, "b": 30})
    for number in range(8):
        Path(f"photos/a/000{number}.png").write_bytes(b"")

    with pytest.raises(StepError, match=r"[5-8] of \d+ images cannot be read: .*0\d\.png cannot be decoded") as caught:
        load_all(open_source("image_folder", {"root": "photos", "validation": 1, "test": 1}))
    assert "plan --scan" in (caught.value.hint or "")


def test_arrays_are_scanned() -> None:
    """A set without files has a format by its channels, and repeated images by number."""
    scan = scan_source(open_source("digits", {}))

    assert {"train": 1439, "validation": 179, "test": 179} == {one.split: one.images for one in scan.splits}
    assert 1797 == counted(scan, "L")
    assert not scan.broken


def test_a_clean_scan_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the content of the set: a broken image is never remembered, and a changed file is read."""
    write_pictures(Path("photos"), {"a": 20, "b": 20})
    calls: list[int] = []
    first = photos()
    again = scan_source(open_source("image_folder", {"root": "photos"}), lambda done, total: calls.append(done))
    Path("photos/a/0000.png").write_bytes(b"")

    assert first == again
    assert not calls
    assert 1 == len(photos().broken)
    assert 1 == len(photos().broken)


def test_progress_ends_with_the_last_image() -> None:
    """Observers see all images."""
    write_pictures(Path("photos"), {"a": 50, "b": 50})
    seen: list[tuple[int, int]] = []
    scan_source(open_source("image_folder", {"root": "photos"}), lambda done, total: seen.append((done, total)))

    assert [(64, 100), (100, 100)] == seen
