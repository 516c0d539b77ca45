"""Folders of image files, one subfolder a class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from autosparse.datasets._base import datasets
from autosparse.datasets.decode import encoded_split, shape_of
from autosparse.datasets.folder_layout import images_by_class, read_layout
from autosparse.datasets.source import Pool, Problem, Split, fetching
from autosparse.errors import MissingData
from autosparse.registry import FilePath
from autosparse.store import contents, digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TINY = "tiny-imagenet-200"
_TINY_IMAGES = (100_000, 10_000, 200)
"""for training, for testing, and classes"""
_TINY_URL, _TINY_MD5 = f"http://cs231n.stanford.edu/{_TINY}.zip", "90528d7ca1a48142e341f4ef8d21d0de"


@datasets.register
def image_folder(
    *,
    root: Annotated[str, FilePath(), "the folder: `root/CLASS/*.jpg`, or `root/train/CLASS/*.jpg` and so on"],
    channels: Annotated[Literal[1, 3], "1 for grey, 3 for colour"] = 3,
) -> Pool:
    """Your folder of images, one subfolder a class; subfolders train, val and test split it if they are there."""
    folder = Path(root).expanduser()
    layout = read_layout(folder)
    parts, reading = dict(layout.parts), layout.reading
    if not parts:
        what = "has no subfolders with images" if folder.is_dir() else "is not there"
        hint = "set `dataset.root` to a folder with one subfolder of images a class"
        identity = {"name": "image_folder", "missing": os.fspath(folder)}
        return Pool.absent(identity, channels, (f"image folder {folder} {what}", hint))
    classes = tuple(parts["train"])
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
        reading += ", tested on the validation images"
    every = [path for files in parts.values() for paths in files.values() for path in paths]
    digests = contents(folder, every)
    listed = {
        purpose: {name: [digests[path] for path in paths] for name, paths in files.items()}
        for purpose, files in parts.items()
    }
    first = next(path for paths in parts["train"].values() for path in paths)
    counts = {purpose: sum(map(len, files.values())) for purpose, files in parts.items()}

    def load(size: int | None) -> tuple[Split, Split | None, Split | None]:
        splits = {purpose: _split(files, classes, channels, size) for purpose, files in parts.items()}
        return splits["train"], splits.get("validation"), splits.get("test")

    return Pool(
        identity={"name": "image_folder", "sha256": digest(listed), "channels": channels},
        shape=shape_of(lambda number: (str(first), first.read_bytes()), channels),
        classes=classes,
        train_images=counts["train"],
        validation_images=counts.get("validation", 0),
        test_images=counts.get("test", 0),
        load=load,
        reading=reading,
        warnings=layout.warnings,
    )


@datasets.register(validation=10_000)
def tiny_imagenet(
    *,
    root: Annotated[str, FilePath(), f"folder that holds, or is to hold, {_TINY}"] = "~/.cache/torchvision",
    download: Annotated[bool, "fetch the files if they are not there"] = False,
) -> Pool:
    """Tiny ImageNet: 110,000 photographs of 64 x 64 pixels in 200 classes; its validation images are tested on."""
    folder = Path(root).expanduser()

    def missing() -> Problem | None:
        if (folder / _TINY / "val" / "val_annotations.txt").is_file() and (folder / _TINY / "train").is_dir():
            return None
        return (
            f"Tiny ImageNet is not in {folder} ({_TINY} is missing)",
            'run `python -c "from torchvision.datasets.utils import download_and_extract_archive as fetch; '
            f'fetch({_TINY_URL!r}, {os.fspath(folder)!r}, md5={_TINY_MD5!r})"`, or set '
            "`dataset: {name: tiny_imagenet, download: true}`",
        )

    def load(size: int | None) -> tuple[Split, None, Split]:
        if missing() is not None and download:
            from torchvision.datasets.utils import download_and_extract_archive

            with fetching("Tiny ImageNet", folder):
                download_and_extract_archive(_TINY_URL, os.fspath(folder), md5=_TINY_MD5, remove_finished=True)
        train = images_by_class(folder / _TINY / "train")
        held: dict[str, list[Path]] = {name: [] for name in train}
        for line in (folder / _TINY / "val" / "val_annotations.txt").read_text(encoding="utf-8").splitlines():
            name, _, rest = line.partition("\t")
            if (wordnet := rest.partition("\t")[0]) in held:
                held[wordnet].append(folder / _TINY / "val" / "images" / name)
        counts = (*(sum(map(len, files.values())) for files in (train, held)), len(train))
        if counts != _TINY_IMAGES:
            raise MissingData(
                "{} holds {} and {} images in {} classes, not {} and {} in {}".format(
                    folder / _TINY, *counts, *_TINY_IMAGES
                ),
                "remove it and fetch the set again",
            )
        return _split(train, tuple(train), 3, size), None, _split(held, tuple(train), 3, size)

    train = folder / _TINY / "train"
    names = tuple(path.name for path in _folders(train))
    images, tested, classes = _TINY_IMAGES
    return Pool(
        identity={"name": "tiny_imagenet", "md5": _TINY_MD5},
        shape=(3, 64, 64),
        classes=names if len(names) == classes else tuple(map(str, range(classes))),
        train_images=images,
        test_images=tested,
        load=load,
        missing=missing,
        fetches=download,
    )


def _folders(folder: Path) -> list[Path]:
    entries = folder.iterdir() if folder.is_dir() else ()
    visible = (entry for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    return sorted(visible, key=lambda entry: entry.name)


def _split(files: Mapping[str, Sequence[Path]], classes: Sequence[str], channels: int, size: int | None) -> Split:
    import numpy

    paths = [path for name in classes for path in files.get(name, ())]
    labels = [number for number, name in enumerate(classes) for _ in files.get(name, ())]

    def encoded(number: int) -> tuple[str, bytes]:
        try:
            return str(paths[number]), paths[number].read_bytes()
        except OSError as error:
            raise MissingData(f"{paths[number]} cannot be read: {error.strerror}") from error

    return encoded_split(encoded, numpy.asarray(labels, dtype="int64"), channels, size)
