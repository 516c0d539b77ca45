"""Parquet files as the Hugging Face hub has them, and as others write them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from autosparse.datasets import Source, Splits, open_source
from autosparse.errors import MissingData, MissingExtra, StepError, UsageError
from tests.datasets.conftest import encoded, everything, load_all, picture, write_parquet

NAMES = ["cat", "dog"]
LARGE = pyarrow.struct({"path": pyarrow.string(), "bytes": pyarrow.large_binary()})
NO_ROWS = {"image": pyarrow.array([], pyarrow.binary()), "label": pyarrow.array([], pyarrow.int64())}


def opened(path: Any, **options: Any) -> Source:
    """The source of Parquet files."""
    return open_source("parquet", {"path": path, **options})


def reds(splits: Splits, purpose: str) -> list[int]:
    """The numbers that the pictures of a split tell."""
    return sorted(int(pixel[1]) for pixel in everything(getattr(splits, purpose))[:, 0, 0])


def hub(folder: Path, train: int = 20, test: int = 6) -> Path:
    """A set as the hub has it."""
    labels = [number % 2 for number in range(train)]
    write_parquet(folder / "train-00000-of-00001.parquet", {"image": encoded(train), "label": labels}, NAMES)
    rows = {"image": encoded(test, 100), "label": labels[:test]}
    write_parquet(folder / "test-00000-of-00001.parquet", rows, NAMES)
    return folder


def test_the_layout_of_the_hub(tmp_path: Path) -> None:
    """Splits by file names, images from their bytes, classes from the metadata."""
    source = opened(str(hub(tmp_path)))
    splits = source.load()

    assert ((3, 4, 6), 2, 18, 6) == (source.shape, source.classes, source.train_images, source.test_images)
    assert list(range(20)) == sorted(reds(splits, "train") + reds(splits, "validation"))
    assert list(range(100, 106)) == reds(splits, "test")
    assert all(
        number % 2 == label
        for number, label in zip(
            everything(splits.train)[:, 0, 0, 1].tolist(), splits.train.labels.tolist(), strict=True
        )
    )
    assert [1, 0] == opened(str(tmp_path), classes=("dog", "cat")).identity["classes"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["train.parquet", "test.parquet"], {"train": 1, "test": 1}),
        (["train-0-of-2.parquet", "train-1-of-2.parquet", "validation-0.parquet"], {"train": 2, "test": 1}),
        (["a.parquet", "dev.parquet", "test01.parquet"], {"train": 1, "validation": 1, "test": 1}),
        (["Train.parquet", "VALID.parquet", "Testing.parquet"], {"train": 1, "validation": 1, "test": 1}),
        (["train/0000.parquet", "train/0001.parquet", "test/0000.parquet"], {"train": 2, "test": 1}),
        (["a/train/0.parquet", "a/val/0.parquet", "a/test/0.parquet"], {"train": 1, "validation": 1, "test": 1}),
        (["data/train_a.parquet", "data/testimony.parquet"], {"train": 2}),
        (["one.parquet", "two.parquet", ".hidden/three.parquet", "._one.parquet"], {"train": 2}),
    ],
)
def test_splits_by_name(tmp_path: Path, files: list[str], expected: dict[str, int]) -> None:
    """Files, or the folders they are in, are named for their splits; validation alone is tested on."""
    for number, file in enumerate(files):
        write_parquet(tmp_path / file, {"image": encoded(10, 10 * number), "label": [0, 1] * 5}, NAMES)
    source = opened(str(tmp_path))

    assert expected == {purpose: len(files) for purpose, files in source.identity["files"].items()}
    assert expected.get("test", 0) * 10 == (source.test_images if "test" in expected else 0)


def test_files_globs_and_folders(tmp_path: Path) -> None:
    """A folder, a glob, a list of files and a folder whose name is a glob name the same set."""
    folder = hub(tmp_path / "a [set]")
    plain = hub(tmp_path / "plain")
    files = [str(plain / name) for name in ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet")]
    paths: list[Any] = [str(folder), str(plain / "*.parquet"), files, [*files, str(plain)], os.path.relpath(plain)]
    identities = [opened(path).identity for path in paths]

    assert [identities[0]] * 5 == identities
    assert identities[0] != opened(files[0]).identity
    assert opened([str(folder / "train-00000-of-00001.parquet")]).missing() is None


def test_a_folder_that_is_called_like_a_file(tmp_path: Path) -> None:
    """A set that was written as a folder of parts is one split."""
    for part in range(2):
        rows = {"image": encoded(5, 5 * part), "label": [0, 1, 0, 1, 0]}
        write_parquet(tmp_path / "train.parquet" / f"part-{part}.parquet", rows, NAMES)
    write_parquet(tmp_path / "test.parquet", {"image": encoded(3, 50), "label": [0, 1, 0]}, NAMES)
    source = opened(str(tmp_path))

    assert {"train": 2, "test": 1} == {purpose: len(files) for purpose, files in source.identity["files"].items()}


def test_names_and_places_are_no_part_of_the_identity(tmp_path: Path) -> None:
    """Moved, renamed and touched files are the same set; one other byte is another."""
    source = opened(str(hub(tmp_path / "a")))
    moved = hub(tmp_path / "b")
    (moved / "train-00000-of-00001.parquet").rename(moved / "train.parquet")
    os.utime(moved / "train.parquet", (1, 1))

    assert source.identity == opened(str(moved)).identity
    assert str(tmp_path) not in str(source.identity)
    assert source.identity == opened(str(moved), image="image", label="label").identity

    write_parquet(moved / "test-00000-of-00001.parquet", {"image": encoded(6, 101), "label": [0, 1] * 3}, NAMES)
    assert source.identity != opened(str(moved)).identity
    assert source.identity != opened(str(tmp_path / "a"), channels=1).identity


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (encoded(12), (3, 4, 6)),
        ([row["bytes"] for row in encoded(12)], (3, 4, 6)),
        (pyarrow.array([row["bytes"] for row in encoded(12)], pyarrow.large_binary()), (3, 4, 6)),
        (pyarrow.array(encoded(12), LARGE), (3, 4, 6)),
    ],
    ids=["struct", "binary", "large binary", "struct of large binary"],
)
def test_columns_of_images(tmp_path: Path, column: Any, expected: tuple[int, ...]) -> None:
    """Images are found wherever their bytes are, under any name."""
    write_parquet(tmp_path / "a.parquet", {"note": ["x"] * 12, "picture": column, "label": [0, 1] * 6})
    source = opened(str(tmp_path))

    assert expected == source.shape
    assert "picture" == source.identity["image"]
    assert (10, 4, 6, 3) == everything(source.load().train).shape


@pytest.mark.parametrize(
    ("labels", "name", "classes"),
    [
        ([0, 1, 2] * 4, "fine_label", 3),
        (["b", "a", "c"] * 4, "kind", 3),
        (pyarrow.array(["b", "a", "c"] * 4).dictionary_encode(), "kind", 3),
        (pyarrow.array([0, 4, 1] * 4, pyarrow.uint8()), "label", 5),
    ],
    ids=["numbers", "names", "a dictionary", "bytes"],
)
def test_columns_of_labels(tmp_path: Path, labels: Any, name: str, classes: int) -> None:
    """Classes are numbered, or named and then numbered in the order of their names."""
    write_parquet(tmp_path / "a.parquet", {"id": [0.5] * 12, "image": encoded(12), name: labels})
    source = opened(str(tmp_path))

    assert (classes, name) == (source.classes, source.identity["label"])
    splits = source.load()
    plain = labels.to_pylist() if hasattr(labels, "to_pylist") else labels
    number = {"a": 0, "b": 1, "c": 2}
    for at, label in zip(everything(splits.train)[:, 0, 0, 1], splits.train.labels, strict=True):
        assert number.get(plain[at], plain[at]) == label


def test_a_column_called_label_is_the_one(tmp_path: Path) -> None:
    """Of several that could be, `label` is taken, unless another one is named."""
    rows = {"coarse": [0, 1, 2] * 4, "image": encoded(12), "label": [0, 1] * 6}
    write_parquet(tmp_path / "a.parquet", rows)

    assert 2 == opened(str(tmp_path)).classes
    assert 3 == opened(str(tmp_path), label="coarse").classes


@pytest.mark.parametrize(
    ("rows", "names", "options", "message"),
    [
        ({"a": [1.5], "label": [0]}, None, {}, "has no column of images"),
        ({"image": encoded(1), "x": [1.5]}, None, {}, "has no column of labels"),
        ({"image": encoded(1), "label": [0]}, None, {"image": "img"}, "has no column 'img'"),
        ({"image": encoded(1), "label": [0]}, None, {"image": "label"}, "column 'label' of .* not hold encoded images"),
        ({"image": encoded(1), "label": [0]}, None, {"label": "image"}, "column 'image' of .* not hold numbers or"),
        ({"images": [encoded(1)], "label": [0]}, None, {}, "has no column of images"),
        ({"image": encoded(3), "label": [0, None, 1]}, None, {}, "a.parquet has no 'label' in row 1"),
        (NO_ROWS, NAMES, {}, "has no rows"),
    ],
)
def test_files_that_do_not_hold_a_set(tmp_path: Path, rows: Any, names: Any, options: Any, message: str) -> None:
    """Columns that are not there or hold other things are told when it is planned."""
    write_parquet(tmp_path / "a.parquet", rows, names)

    with pytest.raises(UsageError, match=message):
        opened(str(tmp_path), **options)


@pytest.mark.parametrize(
    ("labels", "message"), [([0, -1] * 6, "has label -1"), ([0, 2] * 6, "has label 2"), ([0, None] * 6, "in row 1")]
)
def test_labels_that_are_no_class(tmp_path: Path, labels: Any, message: str) -> None:
    """A label beyond the classes of the metadata, such as the -1 of hidden test labels, is told with its file."""
    write_parquet(tmp_path / "train.parquet", {"image": encoded(12), "label": [0, 1] * 6}, NAMES)
    write_parquet(tmp_path / "test.parquet", {"image": encoded(12), "label": labels}, NAMES)

    with pytest.raises(UsageError, match=f"test.parquet .*{message}"):
        opened(str(tmp_path)).load()


def test_files_of_different_classes(tmp_path: Path) -> None:
    """Numbers that mean other classes in another file are not mixed."""
    hub(tmp_path)
    write_parquet(tmp_path / "test-00000-of-00001.parquet", {"image": encoded(6), "label": [0] * 6}, NAMES[::-1])

    with pytest.raises(UsageError, match="names other classes than"):
        opened(str(tmp_path))


def test_what_is_no_parquet_file(tmp_path: Path) -> None:
    """Another file under that name is told."""
    (tmp_path / "a.parquet").write_bytes(b"version https://git-lfs.github.com/spec/v1")

    with pytest.raises(UsageError, match=r"a\.parquet is not a Parquet file"):
        opened(str(tmp_path))


def test_a_broken_image_is_told_by_row(tmp_path: Path) -> None:
    """Which file, which row."""
    rows = [*encoded(5), {"bytes": b"", "path": "elsewhere.png"}, *encoded(6)]
    write_parquet(tmp_path / "a.parquet", {"image": rows, "label": [0, 1] * 6}, NAMES)

    with pytest.raises(StepError, match=r"image 5 of .*a\.parquet cannot be decoded: it is empty"):
        load_all(opened(str(tmp_path)))


@pytest.mark.parametrize("path", ["nowhere", "nowhere/*.parquet", ["a.parquet", "b.parquet"]])
def test_a_set_that_is_not_there(path: Any) -> None:
    """A plan can be made; loading says where nothing was found and how sets are fetched."""
    source = opened(path)

    with pytest.raises(MissingData, match="no Parquet file for training at ") as caught:
        source.load()
    assert "hf download" in (caught.value.hint or "")
    assert not source.known


def test_test_images_alone_are_no_set(tmp_path: Path) -> None:
    """Without a file to train on there is no set."""
    write_parquet(tmp_path / "test.parquet", {"image": encoded(2), "label": [0, 1]}, NAMES)

    assert "no Parquet file for training" in (opened(str(tmp_path)).missing() or ("",))[0]


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named, and the exit code is that of a missing requirement."""
    hub(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)

    with pytest.raises(MissingExtra, match="Parquet files need pyarrow") as caught:
        opened(str(tmp_path))
    assert 5 == caught.value.exit_code
    assert "run `pip install 'autosparse[data]'`" == caught.value.hint


def test_images_keep_their_file_order_and_labels(tmp_path: Path) -> None:
    """Several files are one split: image and label of every row belong together."""
    for part, count in enumerate((3, 1, 8)):
        first = 20 * part
        rows = {"image": encoded(count, first), "label": [(first + at) % 2 for at in range(count)]}
        write_parquet(tmp_path / f"train-{part}.parquet", rows, NAMES)
    splits = opened(str(tmp_path)).load()
    found = {
        int(pixel): int(label)
        for purpose in ("train", "validation", "test")
        for pixel, label in zip(
            everything(getattr(splits, purpose))[:, 0, 0, 1], getattr(splits, purpose).labels, strict=True
        )
    }

    assert {number: number % 2 for number in (0, 1, 2, 20, *range(40, 48))} == found


def test_grey(tmp_path: Path) -> None:
    """`channels: 1` reads grey."""
    files = [picture(number, mode="L") for number in range(12)]
    write_parquet(tmp_path / "a.parquet", {"image": files, "label": [0, 1] * 6})

    assert (1, 4, 6) == opened(str(tmp_path), channels=1).shape
    assert (10, 4, 6, 1) == everything(opened(str(tmp_path), channels=1).load().train).shape
