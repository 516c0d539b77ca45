"""Folders of image files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from autosparse.datasets import Source, image_folder, open_source
from autosparse.errors import MissingData, StepError, UsageError
from tests.datasets.conftest import everything, load_all, picture, write_pictures


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

    assert expected == tuple(len(getattr(splits, purpose).labels) for purpose in ("train", "validation", "test"))
    assert (expected[0], expected[2]) == (source.train_images, source.test_images)
    assert ((3, 4, 6), 2) == (source.shape, source.classes)


def test_classes_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    """Labels follow the names, and what is empty, hidden or no image is no class and no image."""
    write_pictures(tmp_path, {"b": 12, "a": 12, ".hidden": 3, "c": 12, "b/.thumbnails": 5})
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    for name in ("notes/readme.txt", "a/._0000.png", "a/Thumbs.db"):
        (tmp_path / name).write_bytes(b"nothing to see")
    source = opened(tmp_path)

    assert (3, 30) == (source.classes, source.train_images)
    splits = source.load()
    expected = [{1: 0, 2: 1, 4: 2}[red] for red in everything(splits.train)[:, 0, 0, 0].tolist()]
    assert expected == splits.train.labels.tolist()


def test_the_identity_is_the_content(tmp_path: Path) -> None:
    """Where the folder lies and when files were written does not matter; a byte, a class or a split does."""
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
    """What cannot be meant is told when it is planned."""
    with pytest.raises(UsageError, match=message):
        opened(write_pictures(tmp_path, folders))


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    """Images right below a folder make it a class, whatever its name."""
    assert 2 == opened(write_pictures(tmp_path, {"test": 12, "control": 12})).classes


@pytest.mark.parametrize(
    ("folders", "what"),
    [(None, "is not there"), ({}, "has no subfolders with images"), ({"train": 3}, "has no subfolders with images")],
)
def test_a_folder_that_is_not_there(tmp_path: Path, folders: dict[str, int] | None, what: str) -> None:
    """A plan can be made; loading says what was looked for."""
    root = tmp_path / "photos"
    if folders is not None:
        root.mkdir()
        write_pictures(root, folders)
    source = opened(root)

    with pytest.raises(MissingData, match=f"image folder .*photos {what}") as caught:
        source.load()
    assert "one subfolder of images a class" in (caught.value.hint or "")
    assert not source.known


def test_what_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    """The file is told, whether it is the first one that a plan looks at or a later one."""
    root = write_pictures(tmp_path, {"cat": 12, "dog": 12})
    (root / "dog" / "0005.png").write_bytes(picture()[:50])
    with pytest.raises(StepError, match=r"dog.0005\.png cannot be decoded"):
        load_all(opened(root))

    (root / "cat" / "0000.png").write_bytes(b"")
    with pytest.raises(StepError, match=r"cat.0000\.png cannot be decoded"):
        opened(root)


def test_a_file_that_is_gone_when_it_is_read(tmp_path: Path) -> None:
    """A file that vanishes between plan and run is named."""
    root = write_pictures(tmp_path, {"cat": 12, "dog": 12})
    source = opened(root)
    for file in (root / "cat").iterdir():
        file.unlink()

    with pytest.raises(MissingData, match=r"\.png cannot be read: No such file"):
        everything(source.load().train)


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
    monkeypatch.setattr(image_folder, "_TINY_IMAGES", (6, 2, 2))
    train, validation, test = image_folder.tiny_imagenet(root=str(tiny)).load(None)

    assert [0, 0, 0, 1, 1, 1] == train.labels.tolist()
    assert validation is None
    assert test is not None
    assert [0, 1] == test.labels.tolist()
    assert (2, 64, 64, 3) == everything(test).shape
    assert [1, 0] == everything(test)[:, 0, 0, 2].tolist()
