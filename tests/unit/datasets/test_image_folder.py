"""Folders of image files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from autosparse.datasets import Source, builtin, open_source
from autosparse.errors import MissingData, StepError, UsageError
from tests.unit.datasets.conftest import everything, load_all, picture, write_pictures


def opened(root: Path, **options: Any) -> Source:
    """The source of a folder."""
    return open_source("image_folder", {"root": str(root), **options})


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        ({"cat": 20, "dog": 10}, (24, 3, 3)),
        ({"train/cat": 20, "train/dog": 10, "test/cat": 4}, (27, 3, 4)),
        ({"train/cat": 20, "train/dog": 10, "val/cat": 4}, (27, 3, 4)),
        ({"train/cat": 20, "train/dog": 10, "val/dog": 4, "test/cat": 5, "test/dog": 6}, (30, 4, 11)),
        ({"Training/cat": 20, "Training/dog": 10, "Testing/dog": 4}, (27, 3, 4)),
        ({"cat/deep/er": 10, "cat": 10, "dog": 10}, (24, 3, 3)),
    ],
    ids=["classes", "with test", "val alone is tested on", "all three", "capitals", "below a class"],
)
def test_splits_of_a_folder(tmp_path: Path, folders: dict[str, int], expected: tuple[int, int, int]) -> None:
    """Subfolders are classes, or splits with classes in them."""
    source = opened(write_pictures(tmp_path, folders))
    splits = source.load()

    assert expected == tuple(len(splits[purpose].labels) for purpose in ("train", "validation", "test"))
    assert (expected[0], expected[2]) == (source.train_images, source.test_images)
    assert ((3, 4, 6), 2) == (source.shape, source.classes)


def test_classes_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    """Labels follow the names; empty folders, hidden files and other files are neither classes nor images."""
    write_pictures(tmp_path, {"b": 12, "a": 12, ".hidden": 3, "c": 12, "b/.thumbnails": 5})
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    for name in ("notes/readme.txt", "a/._0000.png", "a/Thumbs.db"):
        (tmp_path / name).write_bytes(b"nothing to see")
    source = opened(tmp_path)

    assert (3, 30) == (source.classes, source.train_images)
    splits = source.load()
    expected = [{1: 0, 2: 1, 4: 2}[red] for red in everything(splits["train"])[:, 0, 0, 0].tolist()]
    assert expected == splits["train"].labels.tolist()


def test_the_identity_is_the_content(tmp_path: Path) -> None:
    """The path of the folder and the times of files do not matter; a byte, a class or a split does."""
    folders = {"train/cat": 12, "train/dog": 12, "test/dog": 3}
    root = write_pictures(tmp_path / "one", folders)
    identity = opened(root).identity
    root.rename(tmp_path / "two")
    root = tmp_path / "two"
    os.utime(root / "train" / "cat" / "0003.png", (5, 5))

    assert identity == opened(root).identity
    assert str(tmp_path) not in str(identity)
    assert identity != opened(root, channels=1).identity

    changes: list[tuple[str, str]] = [
        ("train/cat/0003.png", "train/dog/0003b.png"),
        ("test/dog/0000.png", "train/dog/0000b.png"),
    ]
    seen = [identity]
    for before, after in changes:
        (root / before).rename(root / after)
        assert opened(root).identity not in seen
        seen.append(opened(root).identity)
    (root / "train/cat/0000.png").write_bytes(picture((9, 9, 9)))
    assert opened(root).identity not in seen


def test_names_that_keep_their_order_do_not_matter(tmp_path: Path) -> None:
    """A file under another name is the same image as long as it stands at the same place."""
    root = write_pictures(tmp_path, {"cat": 12, "dog": 12})
    identity = opened(root).identity
    (root / "cat" / "0003.png").rename(root / "cat" / "0003-again.png")

    assert identity == opened(root).identity


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ({"train/cat": 5, "train/dog": 5, "val/cow": 2}, "has class 'cow' for validation but not for training"),
        ({"train/cat": 5, "train/dog": 5, "test/cow": 2}, "has class 'cow' for test but not for training"),
        ({"val/cat": 5}, "has val with classes in it but no train"),
        ({"train/cat": 5, "training/dog": 5}, "has both train and training"),
    ],
)
def test_folders_that_contradict_themselves(tmp_path: Path, folders: dict[str, int], message: str) -> None:
    """A contradiction is an error of the plan."""
    with pytest.raises(UsageError, match=message):
        opened(write_pictures(tmp_path, folders))


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    """Images right below a folder make it a class, whatever its name."""
    assert 2 == opened(write_pictures(tmp_path, {"test": 12, "control": 12})).classes


@pytest.mark.parametrize(
    ("folders", "classes", "warning"),
    [
        (["bus", "car", "traincar"], ("bus", "car", "traincar"), None),
        (["bus", "car", "train"], ("bus", "car", "train"), "train is read as one class"),
        (["bus/2020", "car/2020", "train/2020", "train/2021"], ("bus", "car", "train"), "train is read as one class"),
        (["bus", "car", "train/2020"], ("bus", "car", "train"), "train is read as one class"),
        (["control/a", "control/b", "test/a"], ("control", "test"), "test is read as one class"),
        (
            ["val", "test", "other"],
            ("other", "test", "val"),
            "as `other` next to it; a split needs class folders in it",
        ),
    ],
)
def test_classes_called_like_splits(
    tmp_path: Path, folders: list[str], classes: tuple[str, ...], warning: str | None
) -> None:
    """Next to other folders of images a folder `train`, `val` or `test` is a class, and a warning names the doubt."""
    source = opened(write_pictures(tmp_path, dict.fromkeys(folders, 12)))

    assert classes == source.class_names
    assert 12 * len(folders) == source.train_images + source.validation_images + source.test_images
    assert "each folder is a class" == source.reading
    assert [] == list(source.warnings) if warning is None else warning in source.warnings[0]


def test_a_split_or_a_class(tmp_path: Path) -> None:
    """A folder `train` of class folders next to folders of images can be both, and is refused with both remedies."""
    write_pictures(tmp_path, {"train/cat": 12, "train/dog": 12, "unlabelled": 3})

    with pytest.raises(UsageError, match=r"train is either the training split, .* cat, dog, or one class") as caught:
        opened(tmp_path)
    assert f"`dataset.root: {tmp_path / 'train'}`; for one class, move its images" in (caught.value.hint or "")


def test_folders_next_to_splits_are_left_out(tmp_path: Path) -> None:
    """If splits share classes, every other image is counted and its folder named."""
    folders = {"train/cat": 12, "train/dog": 12, "test/cat": 3, "extra/cow": 5, "train": 2, "": 1, "val": 4}
    source = opened(write_pictures(tmp_path, folders))

    assert (("cat", "dog"), 3) == (source.class_names, source.test_images)
    assert "splits in folders `train`, `test`" == source.reading
    assert [
        f"5 images of {tmp_path / 'extra'} are left out: the folder is not a split",
        f"4 images of {tmp_path / 'val'} are left out: the folder holds no classes",
        f"1 image directly in {tmp_path} is left out: no class folder holds them",
        f"2 images directly in {tmp_path / 'train'} are left out: no class folder holds them",
    ] == list(source.warnings)


def test_files_that_are_no_images_are_counted(tmp_path: Path) -> None:
    """Folders without images, files of other types and broken links are counted and named."""
    write_pictures(tmp_path, {"a": 12, "b": 12})
    (tmp_path / "empty").mkdir()
    for name in ("c/1.heic", "c/deep/2.HEIC", "c/3", "d/notes.txt", "a/1.txt", "a/2.txt", "b/deep/3.json", "root.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"no image")
    paths = ", ".join(str(tmp_path / name) for name in ("c", "d", "empty"))
    source = opened(tmp_path)

    assert ("a", "b") == source.class_names
    assert [
        f"{paths} are left out: no image among 4 files (2 `.heic`, 1 without suffix, 1 `.txt`)",
        f"3 files (2 `.txt`, 1 `.json`) in class folders of {tmp_path} are left out: no images",
    ] == list(source.warnings)


def test_broken_links_are_counted(tmp_path: Path) -> None:
    """A symbolic link to a file that does not exist is no image; it is counted and named."""
    write_pictures(tmp_path, {"a": 12, "b": 12})
    try:
        (tmp_path / "a" / "z.png").symlink_to(tmp_path / "nowhere.png")
        (tmp_path / "b" / "self").symlink_to(tmp_path / "b" / "self")
    except OSError:
        pytest.skip("no links here")
    source = opened(tmp_path)

    assert 24 == source.train_images + source.validation_images + source.test_images
    assert (
        f"2 files (broken links) in class folders of {tmp_path} are left out: no images",
        f"broken links: {tmp_path / 'a' / 'z.png'}, {tmp_path / 'b' / 'self'}",
    ) == source.warnings


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "JPEG", "jp2", "apng", "dib", "pbm", "pnm", "tga", "tif"])
def test_raster_formats(tmp_path: Path, suffix: str) -> None:
    """Images of every raster format that Pillow opens are read, under any of its suffixes."""
    write_pictures(tmp_path, {"a": 12})
    (tmp_path / "b").mkdir()
    Image.init()
    for number in range(12):
        mode = "1" if suffix == "pbm" else "RGB"
        kind = Image.EXTENSION[f".{suffix.lower()}"]
        (tmp_path / "b" / f"{number}.{suffix}").write_bytes(picture(number % 2, mode=mode, kind=kind))
    source = opened(tmp_path)

    assert ("a", "b") == source.class_names
    assert (3, 4, 6) == source.shape
    load_all(source)


def test_images_behind_links(tmp_path: Path) -> None:
    """A class whose images lie behind symbolic links to folders and files is read."""
    root = write_pictures(tmp_path / "set", {"a": 12})
    elsewhere = write_pictures(tmp_path / "elsewhere", {"b": 11})
    (elsewhere / "one.png").write_bytes(picture())
    (root / "b").mkdir()
    try:
        (root / "b" / "2024").symlink_to(elsewhere / "b", target_is_directory=True)
        (root / "b" / "one.png").symlink_to(elsewhere / "one.png")
    except OSError:
        pytest.skip("no links here")

    assert (("a", "b"), ()) == ((source := opened(root)).class_names, source.warnings)
    assert 24 == source.train_images + source.validation_images + source.test_images


COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def unicode_folders(root: Path, folders: dict[str, int]) -> Path:
    """Folders of pictures; skips where the file system keeps one Unicode form."""
    write_pictures(root, folders)
    if len({name.name for name in root.rglob("caf*")}) != len(
        {name.split("/")[-1] for name in folders if "caf" in name}
    ):
        pytest.skip("this file system keeps one Unicode form")
    return root


def test_unicode_forms_of_a_class_are_one(tmp_path: Path) -> None:
    """A class is the same in training and test images, and in the identity, whatever Unicode form its name has."""
    one = unicode_folders(tmp_path / "1", {f"train/{COMPOSED}": 12, "train/z": 12, f"test/{DECOMPOSED}": 3})
    other = unicode_folders(tmp_path / "2", {f"train/{DECOMPOSED}": 12, "train/z": 12, f"test/{COMPOSED}": 3})

    assert (COMPOSED, "z") == opened(one).class_names == opened(other).class_names
    assert opened(one).identity == opened(other).identity


def test_folders_that_differ_in_unicode_form_alone(tmp_path: Path) -> None:
    """Two folders whose names look alike are refused, and the reason says why they differ."""
    root = unicode_folders(tmp_path, {COMPOSED: 12, DECOMPOSED: 12, "z": 12})

    with pytest.raises(UsageError, match=f"two folders named '{COMPOSED}', in different Unicode forms"):
        opened(root)


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    """The shape and the pixels of a set follow the EXIF orientation of its files."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(12):
            Image.new("RGB", (6, 4), (number, 0, 0)).save(tmp_path / name / f"{number}.jpg", exif=exif)
    source = opened(tmp_path)

    assert (3, 6, 4) == source.shape
    assert (20, 6, 4, 3) == everything(source.load()["train"]).shape


@pytest.mark.parametrize(
    ("folders", "what"),
    [
        (None, "does not exist"),
        ({}, "has no subfolders with images"),
        ({"train": 3}, "has no subfolders with images"),
        ({"train": 3, "test": 3}, "has no subfolders with images"),
    ],
)
def test_a_folder_that_is_not_there(tmp_path: Path, folders: dict[str, int] | None, what: str) -> None:
    """A plan is possible; loading names the expected files."""
    root = tmp_path / "photos"
    if folders is not None:
        root.mkdir()
        write_pictures(root, folders)
    source = opened(root)

    with pytest.raises(MissingData, match=f"image folder .*photos {what}") as caught:
        source.load()
    assert "one subdirectory of images per class" in (caught.value.hint or "")
    assert not source.known


def test_what_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    """The error names every file, also the first one, from which a plan would take the shape."""
    root = write_pictures(tmp_path, {"cat": 12, "dog": 12})
    (root / "dog" / "0005.png").write_bytes(picture()[:50])
    with pytest.raises(StepError, match=r"dog.0005\.png cannot be decoded"):
        load_all(opened(root))

    (root / "cat" / "0000.png").write_bytes(b"")
    source = opened(root)
    assert (3, 4, 6) == source.shape
    with pytest.raises(
        StepError, match=r"^2 of \d+ images cannot be read: .*cat.0000\.png cannot be decoded: it is empty"
    ):
        load_all(source)


def test_a_file_that_is_gone_when_it_is_read(tmp_path: Path) -> None:
    """A file that vanishes between plan and run is named."""
    root = write_pictures(tmp_path, {"cat": 12, "dog": 12})
    source = opened(root)
    for file in (root / "cat").iterdir():
        file.unlink()

    with pytest.raises(MissingData, match=r"\.png cannot be read: No such file"):
        everything(source.load()["train"])


def test_a_loop_of_links_is_not_followed(tmp_path: Path) -> None:
    """A link to a folder above ends nowhere; a class may be a link."""
    root = write_pictures(tmp_path / "set", {"cat": 12})
    elsewhere = write_pictures(tmp_path / "elsewhere", {"d": 12})
    try:
        (root / "cat" / "loop").symlink_to(root, target_is_directory=True)
        (root / "dog").symlink_to(elsewhere / "d", target_is_directory=True)
    except OSError:
        pytest.skip("no links here")

    assert (2, 20) == (opened(root).classes, opened(root).train_images)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Tiny ImageNet's layout, with two classes of three images."""
    root = tmp_path / "tiny-imagenet-200"
    write_pictures(root, {"train/n01/images": 3, "train/n02/images": 3, "val/images": 2}, size=(64, 64))
    lines = ["0000.png\tn02\t0\t0\t62\t62", "0001.png\tn01\t1\t2\t3\t4", ""]
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines))
    return tmp_path


def test_tiny_imagenet_is_counted(tiny: Path) -> None:
    """A part of the set is not the set that was published."""
    source = open_source("tiny_imagenet", {"root": str(tiny), "validation": 10_000})

    assert source.missing() is None
    with pytest.raises(MissingData, match="holds 6 and 2 images in 2 classes, not 100000 and 10000 in 200") as caught:
        source.load()
    assert "fetch the set again" in (caught.value.hint or "")


def test_tiny_imagenets_layout(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training images lie below their class, validation images are listed with theirs and tested on."""
    monkeypatch.setattr(builtin, "_TINY_IMAGES", (6, 2, 2))
    splits = builtin.tiny_imagenet(root=str(tiny)).load(None)
    train, test = splits["train"], splits["test"]

    assert {"train", "test"} == set(splits)
    assert [0, 0, 0, 1, 1, 1] == train.labels.tolist()
    assert [0, 1] == test.labels.tolist()
    assert (2, 64, 64, 3) == everything(test).shape
    assert [1, 0] == everything(test)[:, 0, 0, 2].tolist()
