"""Parquet files as the Hugging Face hub has them, and as others write them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from autosparse.datasets import Source, Splits, open_source
from autosparse.errors import FitError, MissingData, MissingExtra, StepError, UsageError
from tests.unit.datasets.conftest import encoded, everything, load_all, picture, write_parquet

NAMES = ["cat", "dog"]
SPLITS = ("train", "validation", "test")
LARGE = pyarrow.struct({"path": pyarrow.string(), "bytes": pyarrow.large_binary()})
BINARY = pyarrow.binary()
NO_ROWS = {"image": pyarrow.array([], pyarrow.binary()), "label": pyarrow.array([], pyarrow.int64())}


def opened(path: Any, **options: Any) -> Source:
    """The source of Parquet files."""
    return open_source("parquet", {"path": path, **options})


def reds(splits: Splits, purpose: str) -> list[int]:
    """Return the numbers that the pixels of a split encode."""
    return sorted(int(pixel[1]) for pixel in everything(splits[purpose])[:, 0, 0])


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
            everything(splits["train"])[:, 0, 0, 1].tolist(), splits["train"].labels.tolist(), strict=True
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
    assert (10, 4, 6, 3) == everything(source.load()["train"]).shape


@pytest.mark.parametrize(
    ("labels", "name", "classes"),
    [
        ([0, 1, 2] * 4, "fine_label", 3),
        (["b", "a", "c"] * 4, "kind", 3),
        (pyarrow.array(["b", "a", "c"] * 4).dictionary_encode(), "kind", 3),
        (pyarrow.array([0, 2, 1] * 4, pyarrow.uint8()), "label", 3),
        ([False, True, True] * 4, "is_cat", 2),
    ],
    ids=["numbers", "names", "a dictionary", "bytes", "booleans"],
)
def test_columns_of_labels(tmp_path: Path, labels: Any, name: str, classes: int) -> None:
    """Classes are numbered, or named and then numbered in the order of their names."""
    write_parquet(tmp_path / "a.parquet", {"id": [0.5] * 12, "image": encoded(12), name: labels})
    source = opened(str(tmp_path))

    assert (classes, name) == (source.classes, source.identity["label"])
    splits = source.load()
    plain = labels.to_pylist() if hasattr(labels, "to_pylist") else labels
    number = {"a": 0, "b": 1, "c": 2}
    for at, label in zip(everything(splits["train"])[:, 0, 0, 1], splits["train"].labels, strict=True):
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
    """Missing columns, and columns of other types, are errors of the plan."""
    write_parquet(tmp_path / "a.parquet", rows, names)

    with pytest.raises(UsageError, match=message):
        opened(str(tmp_path), **options)


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0, -1] * 6, "has label -1"), ([0, 2] * 6, "has label 2"), ([0, None] * 6, "in rows 1, 3, 5")],
)
def test_labels_that_are_no_class(tmp_path: Path, labels: Any, message: str) -> None:
    """A label beyond the classes of the metadata, such as the -1 of hidden test labels, is reported with its file."""
    write_parquet(tmp_path / "train.parquet", {"image": encoded(12), "label": [0, 1] * 6}, NAMES)
    write_parquet(tmp_path / "test.parquet", {"image": encoded(12), "label": labels}, NAMES)

    with pytest.raises(UsageError, match=f"test.parquet .*{message}"):
        opened(str(tmp_path)).load()


def features(**columns: Any) -> dict[bytes, bytes]:
    """Metadata of a schema as the Hugging Face hub writes them: column -> names of classes, or a type."""
    kinds = {
        name: {"_type": kind} if isinstance(kind, str) else {"_type": "ClassLabel", "names": kind}
        for name, kind in columns.items()
    }
    return {b"huggingface": json.dumps({"info": {"features": kinds}}).encode()}


def write(path: Path, metadata: dict[bytes, bytes] | None = None, **columns: Any) -> None:
    """A Parquet file of these columns, with metadata of its schema."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns).replace_schema_metadata(metadata), path)


ABC = ["a", "b", "c"]


@pytest.mark.parametrize(
    ("columns", "metadata", "expected"),
    [
        ({"idx": range(12), "breed": [0, 1, 2] * 4}, {"breed": ABC}, ("breed", ABC)),
        ({"label": range(12), "breed": [0, 1, 2] * 4}, {"breed": ABC}, ("breed", ABC)),
        ({"coarse": [0, 1] * 6, "label": [0, 1, 2] * 4}, {"coarse": ["x", "y"], "label": ABC}, ("label", ABC)),
        ({"width": [9] * 12, "labels": [0, 1, 2] * 4}, None, ("labels", ["0", "1", "2"])),
        ({"labels": [9] * 12, "label": [0, 1, 2] * 4}, {"label": "Value"}, ("label", ["0", "1", "2"])),
        ({"price": [0.5] * 12, "kind": ["c", "a", "b"] * 4}, None, ("kind", ABC)),
        ({"kind": ["c", "a", "b"] * 4, "__index_level_0__": range(12)}, None, ("kind", ABC)),
    ],
    ids=["ClassLabel", "ClassLabel before a name", "two ClassLabels", "labels", "label", "the only one", "an index"],
)
def test_the_column_of_the_labels(tmp_path: Path, columns: Any, metadata: Any, expected: tuple[str, list[str]]) -> None:
    """Metadata choose the labels, then usual names, then types; the choice and the classes are named."""
    about = None if metadata is None else features(image="Image", **metadata)
    write(tmp_path / "a.parquet", about, image=encoded(12), **{name: list(given) for name, given in columns.items()})
    source = opened(str(tmp_path))

    assert expected == (source.identity["label"], list(source.class_names))
    assert f"column `image` holds the images, `{expected[0]}` the labels" == source.reading
    assert () == source.warnings


@pytest.mark.parametrize(
    ("columns", "metadata", "candidates"),
    [
        ({"idx": [0, 1] * 6, "breed": [0, 1] * 6}, None, "labels: idx, breed"),
        ({"file": ["x", "y"] * 6, "breed": [0, 1] * 6}, None, "labels: file, breed"),
        ({"fine": [0, 1] * 6, "coarse": [0, 1] * 6}, {"fine": ABC, "coarse": ABC}, "labels: fine, coarse"),
        ({"left": encoded(12), "right": encoded(12), "label": [0, 1] * 6}, None, "images: left, right"),
        (
            {"left": encoded(12), "right": encoded(12), "label": [0, 1] * 6},
            {"left": "Image", "right": "Image"},
            "images: left, right",
        ),
    ],
)
def test_several_candidates_are_refused(tmp_path: Path, columns: Any, metadata: Any, candidates: str) -> None:
    """Several columns that can be the labels or the images are named, with the option that chooses."""
    images = {} if "left" in columns else {"image": encoded(12)}
    write(tmp_path / "a.parquet", None if metadata is None else features(**metadata), **images, **columns)
    role = candidates[:5]

    with pytest.raises(UsageError, match=f"has 2 columns that can be the {candidates}") as caught:
        opened(str(tmp_path))
    assert f"choose one with `dataset.{role}: NAME`" == caught.value.hint


def test_metadata_choose_the_images(tmp_path: Path) -> None:
    """Of several columns with bytes, the one that metadata call an image is read."""
    write(tmp_path / "a.parquet", features(photo="Image"), audio=encoded(12), photo=encoded(12), label=[0, 1] * 6)

    assert "photo" == opened(str(tmp_path)).identity["image"]


@pytest.mark.parametrize(
    ("labels", "different"),
    [(list(range(12)), 12), ([f"{number}.png" for number in range(12)], 12), ([*range(7)] * 2, 7)],
)
def test_identifiers_are_no_labels(tmp_path: Path, labels: list[Any], different: int) -> None:
    """A column whose values differ for every image, or for more than every second one, is refused."""
    rows = {"image": encoded(len(labels)), "label": labels}
    write_parquet(tmp_path / "a.parquet", {name: values[:12] for name, values in rows.items()})

    with pytest.raises(UsageError, match=f"column 'label' .*holds no labels: {different} different values in 12 "):
        opened(str(tmp_path))


def test_damaged_metadata_are_refused(tmp_path: Path) -> None:
    """Metadata that are no JSON are named."""
    write(tmp_path / "a.parquet", {b"huggingface": b"{"}, image=encoded(12), label=[0, 1] * 6)

    with pytest.raises(UsageError, match=r"the `huggingface` metadata of .*parquet is damaged"):
        opened(str(tmp_path))


@pytest.mark.parametrize("first", [7, 10**6, 2**40, 2**63 - 3])
def test_labels_become_numbers_of_classes(tmp_path: Path, first: int) -> None:
    """Labels of any size become classes by their order and keep their names, and a warning says so."""
    labels = [first + (number * 2) % 3 for number in range(12)]
    write_parquet(tmp_path / "a.parquet", {"image": encoded(12), "label": labels})
    source = opened(str(tmp_path))
    splits = source.load()

    assert (str(first), str(first + 1), str(first + 2)) == source.class_names
    assert all(
        labels[pixel] - first == label
        for pixel, label in zip(everything(splits["train"])[:, 0, 0, 1], splits["train"].labels, strict=True)
    )
    warning = (
        f"column `label` of a.parquet: labels are not 0 to 2; {first}, {first + 1}, {first + 2} become classes 0 to 2"
    )
    assert [f"{warning}, in this order"] == list(source.warnings)
    assert 2 == opened(str(tmp_path), classes=(first, first + 2)).classes


def test_numbers_are_part_of_the_identity_where_they_were_changed(tmp_path: Path) -> None:
    """The identity of a set with labels 0 to n - 1 names no labels; one with other labels does."""
    sets: dict[str, list[Any]] = {"plain": [0, 1, 2], "gaps": [0, 1, 9], "names": ABC}
    for name, labels in sets.items():
        write_parquet(tmp_path / name / "a.parquet", {"image": encoded(12), "label": labels * 4})

    assert {"plain": False, "gaps": True, "names": False} == {
        name: "labels" in opened(str(tmp_path / name)).identity for name in ("plain", "gaps", "names")
    }


def test_unicode_forms_of_a_label_are_one_class(tmp_path: Path) -> None:
    """Names that look alike are one class, whatever Unicode form they have in each file."""
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    write_parquet(tmp_path / "train.parquet", {"image": encoded(12), "label": [composed, "z"] * 6})
    write_parquet(tmp_path / "test.parquet", {"image": encoded(4), "label": [decomposed, "z"] * 2})
    source = opened(str(tmp_path), classes=("z", decomposed))

    assert ("z", composed) == source.class_names
    assert [1, 0, 1, 0] == source.load()["test"].labels.tolist()


def test_classes_without_training_images_are_named(tmp_path: Path) -> None:
    """A label that only test images have is a class, with a warning."""
    write_parquet(tmp_path / "train.parquet", {"image": encoded(12), "label": ["a", "b"] * 6})
    write_parquet(tmp_path / "test.parquet", {"image": encoded(4), "label": ["a", "?"] * 2})

    assert ("column `label`: no training images of class ?",) == opened(str(tmp_path)).warnings


def test_negative_labels_are_refused(tmp_path: Path) -> None:
    """A negative label, which marks images without one, is no class."""
    write_parquet(tmp_path / "a.parquet", {"image": encoded(12), "label": [0, 1, -1] * 4})

    with pytest.raises(UsageError, match="labels must be at least 0 but one is -1"):
        opened(str(tmp_path))


def references(folder: Path, *, kind: Any = BINARY, rows: int = 12) -> Path:
    """A set whose odd rows name image files in place of bytes."""
    (folder / "images").mkdir(parents=True)
    images = encoded(rows)
    for number in range(1, rows, 2):
        (folder / "images" / f"{number}.png").write_bytes(images[number]["bytes"])
        images[number] = {"bytes": None, "path": f"images/{number}.png"}
    if kind == pyarrow.null():
        images = [images[1]] * rows
    struct = pyarrow.struct({"bytes": kind, "path": pyarrow.string()})
    write(folder / "a.parquet", image=pyarrow.array(images, struct), label=[0, 1] * (rows // 2))
    return folder


def test_rows_that_name_image_files(tmp_path: Path) -> None:
    """A row without bytes is read from the file that its path names, relative to the Parquet file."""
    splits = opened(str(references(tmp_path))).load()

    assert list(range(12)) == sorted(number for purpose in SPLITS for number in reds(splits, purpose))


def test_columns_of_paths_alone(tmp_path: Path) -> None:
    """A column whose bytes are null in every row holds images too."""
    assert (3, 4, 6) == opened(str(references(tmp_path, kind=pyarrow.null()))).shape


def test_image_files_are_part_of_the_identity(tmp_path: Path) -> None:
    """The content of the named files counts, the folder of the set does not."""
    source = opened(str(references(tmp_path / "a")))
    (tmp_path / "a").rename(tmp_path / "b")

    assert source.identity == opened(str(tmp_path / "b")).identity
    (tmp_path / "b" / "images" / "3.png").write_bytes(picture((1, 2, 3)))
    assert source.identity != opened(str(tmp_path / "b")).identity


def test_image_files_that_are_missing(tmp_path: Path) -> None:
    """A row whose image file is missing is named before anything runs."""
    references(tmp_path)
    (tmp_path / "images" / "5.png").unlink()

    with pytest.raises(MissingData, match=r"row 5 of .*a\.parquet names the image file .*5\.png, which is missing"):
        opened(str(tmp_path))


@pytest.mark.parametrize("statistics", [True, False])
def test_bytes_are_not_read_to_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, statistics: bool) -> None:
    """Statistics of the file say that every row has bytes; without them the rows are read."""
    asked = []
    iterate = pyarrow.parquet.ParquetFile.iter_batches

    def counting(file: Any, batch_size: int, **options: Any) -> Any:
        asked.append(batch_size)
        return iterate(file, batch_size, **options)

    table = pyarrow.table({"image": encoded(12), "label": [0, 1] * 6})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", write_statistics=statistics)
    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "iter_batches", counting)

    assert (3, 4, 6) == opened(str(tmp_path)).shape
    assert ([1] if statistics else [1024, 1]) == asked


def test_rows_without_an_image(tmp_path: Path) -> None:
    """A row with neither bytes nor a path is named."""
    write_parquet(tmp_path / "a.parquet", {"image": [*encoded(11), {"bytes": None, "path": None}], "label": [0, 1] * 6})

    with pytest.raises(UsageError, match=r"row 11 of .*a\.parquet has neither the bytes nor the path of an image"):
        opened(str(tmp_path))


def test_files_that_are_left_out_are_named(tmp_path: Path) -> None:
    """Files under another suffix are named, and so are files that no split claims."""
    hub(tmp_path)
    write_parquet(tmp_path / "more.parquet", {"image": encoded(12, 50), "label": [0, 1] * 6}, NAMES)
    (tmp_path / "train-2.PARQUET").write_bytes(b"")
    source = opened(str(tmp_path))

    assert [
        f"left out: {tmp_path / 'train-2.PARQUET'}; names of Parquet files end in `.parquet`",
        f"used for training though no name says so: {tmp_path / 'more.parquet'}",
    ] == list(source.warnings)


def test_folders_behind_links_are_read(tmp_path: Path) -> None:
    """A symbolic link to a folder of Parquet files is followed, a loop is not."""
    hub(tmp_path / "elsewhere")
    (tmp_path / "set").mkdir()
    try:
        (tmp_path / "set" / "data").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "set", target_is_directory=True)
    except OSError:
        pytest.skip("no links here")

    assert opened(str(tmp_path / "elsewhere")).identity == opened(str(tmp_path / "set")).identity


def test_files_of_different_classes(tmp_path: Path) -> None:
    """Numbers that mean other classes in another file are not mixed."""
    hub(tmp_path)
    write_parquet(tmp_path / "test-00000-of-00001.parquet", {"image": encoded(6), "label": [0] * 6}, NAMES[::-1])

    with pytest.raises(UsageError, match="names other classes than"):
        opened(str(tmp_path))


def test_what_is_no_parquet_file(tmp_path: Path) -> None:
    """Another file under that name is an error."""
    (tmp_path / "a.parquet").write_bytes(b"version https://git-lfs.github.com/spec/v1")

    with pytest.raises(UsageError, match=r"a\.parquet is not a Parquet file"):
        opened(str(tmp_path))


@pytest.mark.parametrize("failing", [(pyarrow.parquet, "ParquetFile"), (json, "loads")], ids=["file", "metadata"])
def test_a_lack_of_memory_is_no_fault_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: tuple[Any, str]
) -> None:
    """It is no damage of the file or of its metadata."""

    def fail(*_: object) -> None:
        raise pyarrow.ArrowMemoryError("malloc of size 64 failed")

    hub(tmp_path)
    monkeypatch.setattr(*failing, fail)
    with pytest.raises(FitError, match="reading dataset parquet takes more memory than there is"):
        opened(str(tmp_path))


def test_a_broken_image_is_told_by_row(tmp_path: Path) -> None:
    """The error names file and row."""
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

    with pytest.raises(MissingExtra, match="dataset `parquet` needs pyarrow") as caught:
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
    result = {
        int(pixel): int(label)
        for purpose in ("train", "validation", "test")
        for pixel, label in zip(everything(splits[purpose])[:, 0, 0, 1], splits[purpose].labels, strict=True)
    }

    assert {number: number % 2 for number in (0, 1, 2, 20, *range(40, 48))} == result


def test_grey(tmp_path: Path) -> None:
    """`channels: 1` reads grey."""
    files = [picture(number, mode="L") for number in range(12)]
    write_parquet(tmp_path / "a.parquet", {"image": files, "label": [0, 1] * 6})

    assert (1, 4, 6) == opened(str(tmp_path), channels=1).shape
    assert (10, 4, 6, 1) == everything(opened(str(tmp_path), channels=1).load()["train"]).shape
