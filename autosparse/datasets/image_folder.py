"""Folders of image files: their layout of classes and splits, and the ignored files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from autosparse.backends import usable_cores
from autosparse.borders import expand
from autosparse.datasets._base import Pool, Split, datasets
from autosparse.datasets.decode import encoded_split, shape_of
from autosparse.datasets.labels import class_name
from autosparse.errors import MissingData, UsageError
from autosparse.lazy_torch import numpy
from autosparse.registry import FilePath
from autosparse.regular_file import LARGEST_IMAGE, read_regular
from autosparse.store import contents, digest, name_in
from autosparse.text import listed, plural

_SUFFIXES = {
    ".apng", ".avif", ".avifs", ".bmp", ".dcx", ".dds", ".dib", ".gif", ".icb", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc",
    ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".pbm", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".ras",
    ".sgi", ".tga", ".tif", ".tiff", ".vda", ".vst", ".webp", ".xbm", ".xpm",
}  # fmt: skip
"""Raster formats that Pillow opens, except icons; a fixed list, so that a set does not depend on Pillow's release."""
_PURPOSES = {"train": ("train", "training"), "validation": ("val", "valid", "validation"), "test": ("test", "testing")}
_SYSTEM = {"thumbs.db", "desktop.ini"}
_LINK, _SPECIAL, _SHOWN, _LINKS = "broken links", "pipes, sockets and devices", 3, 20


@datasets.register
def image_folder(
    *,
    root: Annotated[str, FilePath(), "image folder: `root/CLASS/*.jpg`, or `root/train/CLASS/*.jpg` and so on"],
    channels: Annotated[Literal[1, 3], "1 for grey, 3 for colour"] = 3,
) -> Pool:
    """Your folder of images, one subdirectory per class; subdirectories train, val and test are its splits."""
    folder = expand(root)
    layout = read_layout(folder)
    parts, reading = dict(layout.parts), layout.reading
    if not parts:
        what = "has no subfolders with images" if folder.is_dir() else "does not exist"
        hint = "set `dataset.root` to a folder with one subdirectory of images per class"
        identity = {"name": "image_folder", "missing": os.fspath(folder)}
        return Pool.absent(identity, channels, (f"image folder {folder} {what}", hint))
    classes = tuple(parts["train"])
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
        reading += ", tested on the validation images"
    every = [path for files in parts.values() for paths in files.values() for path in paths]
    digests = contents(folder, every, threads=usable_cores().value)
    by_class = {
        purpose: {name: [digests[path] for path in paths] for name, paths in files.items()}
        for purpose, files in parts.items()
    }
    training = [path for paths in parts["train"].values() for path in paths]

    def load(size: int | None) -> dict[str, Split]:
        splits = {purpose: {name: files.get(name, ()) for name in classes} for purpose, files in parts.items()}
        return {purpose: files_split(files, channels, size) for purpose, files in splits.items()}

    return Pool(
        identity={"name": "image_folder", "sha256": digest(by_class), "channels": channels},
        shape=shape_of(((str(path), read_regular(path, most=LARGEST_IMAGE)) for path in training), channels),
        classes=classes,
        images=Counter({purpose: sum(map(len, files.values())) for purpose, files in parts.items()}),
        load=load,
        reading=reading,
        warnings=layout.warnings,
    )


def files_split(files: Mapping[str, Sequence[Path]], channels: int, size: int | None) -> Split:
    """Return a split of image files by class; classes are numbered in their order."""
    paths = [path for of_class in files.values() for path in of_class]
    labels = [number for number, of_class in enumerate(files.values()) for _ in of_class]

    def encoded(number: int) -> tuple[str, bytes]:
        try:
            return str(paths[number]), read_regular(paths[number], most=LARGEST_IMAGE)
        except OSError as error:
            raise MissingData(f"{paths[number]} cannot be read: {error.strerror}") from error

    return encoded_split(encoded, numpy.asarray(labels, dtype="int64"), channels, size)


@dataclass(frozen=True)
class Layout:
    """Images by split and class, a phrase on the folders' meaning, and one sentence for each ignored item."""

    parts: Mapping[str, Mapping[str, Sequence[Path]]] = field(default_factory=dict)
    reading: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Folder:
    path: Path
    images: tuple[Path, ...]
    """images directly in it"""
    others: Counter[str]
    """suffix -> number of other files directly in it"""
    folders: tuple[_Folder, ...]
    links: tuple[Path, ...] = ()
    """broken links directly in it, which `others` counts too"""

    @cached_property
    def name(self) -> str:
        return class_name(name_in(self.path.parent, self.path))

    @cached_property
    def purpose(self) -> str | None:
        return next((purpose for purpose, names in _PURPOSES.items() if self.name.lower() in names), None)

    @cached_property
    def every(self) -> list[Path]:
        """Images at any depth, in the same order on every system."""
        images = [*self.images, *(image for folder in self.folders for image in folder.every)]
        return sorted(images, key=Path.as_posix)

    @property
    def classes(self) -> list[_Folder]:
        return [folder for folder in self.folders if folder.every]

    @property
    def class_names(self) -> set[str]:
        return {folder.name for folder in self.classes}

    def all_links(self) -> list[Path]:
        """Return the broken links at any depth."""
        return [*self.links, *(link for folder in self.folders for link in folder.all_links())]

    def all_others(self) -> Counter[str]:
        """Count the files at any depth that are no images."""
        return sum((folder.all_others() for folder in self.folders), Counter(self.others))


def read_layout(root: Path) -> Layout:
    """Return the classes and splits of a folder; both are empty where no subfolder holds images.

    A folder named for a split is one if it holds class folders and no other folder next to it holds images, or if the
    training split has one of its classes. Otherwise every folder is a class.

    Raises:
        UsageError: The folders contradict each other, or are ambiguous.
        MissingData: A folder cannot be read.
    """
    if not root.is_dir():
        return Layout()
    top = _scan(root, frozenset({os.path.realpath(root)}))
    splits = [folder for folder in top.classes if folder.purpose and folder.classes]
    plain = [folder for folder in top.classes if not folder.purpose]
    training = [folder for folder in splits if folder.purpose == "train"]
    others = [folder for folder in splits if folder.purpose != "train"]
    common = any(one.class_names & other.class_names for one in training for other in others)
    if common or (splits and not plain):
        return _as_splits(top, splits)
    return _as_classes(top, plain) if plain else Layout()


def images_by_class(folder: Path) -> dict[str, list[Path]]:
    """Return the images of each class folder, classes by name; empty where the folder does not exist."""
    return _by_class(_scan(folder, frozenset({os.path.realpath(folder)}))) if folder.is_dir() else {}


def _scan(path: Path, above: frozenset[str]) -> _Folder:
    # Symbolic links are followed, except loops: links to a folder that is being read.
    try:
        with os.scandir(path) as entries:
            visible = [entry for entry in sorted(entries, key=lambda one: one.name) if not entry.name.startswith(".")]
    except OSError as error:
        raise MissingData(f"folder {path} cannot be read: {error.strerror}", "make it readable") from error
    images, others, folders, links = [], Counter[str](), [], []
    for entry in visible:
        here, suffix = path / entry.name, Path(entry.name).suffix.lower()
        if os.path.isdir(here) if entry.is_symlink() else entry.is_dir():
            if (real := os.path.realpath(here)) not in above:
                folders.append(_scan(here, above | {real}))
        elif entry.is_symlink() and not here.is_file():
            others[_LINK] += 1
            links.append(here)
        elif not entry.is_symlink() and not entry.is_file():
            others[_SPECIAL] += 1
        elif suffix in _SUFFIXES:
            images.append(here)
        elif entry.name.lower() not in _SYSTEM:
            others[f"`{suffix}`" if suffix else "without suffix"] += 1
    return _Folder(path, tuple(images), others, tuple(folders), tuple(links))


def _by_class(folder: _Folder) -> dict[str, list[Path]]:
    classes: dict[str, list[Path]] = {}
    for child in sorted(folder.classes, key=lambda child: class_name(child.path.name)):
        if child.name in classes:
            raise UsageError(
                f"{folder.path} has two folders named {child.name!r}, in different Unicode forms (NFC and NFD)",
                "merge them, or rename one",
            )
        classes[child.name] = child.every
    return classes


def _as_splits(top: _Folder, splits: Sequence[_Folder]) -> Layout:
    by_purpose: dict[str, _Folder] = {}
    for folder in splits:
        assert folder.purpose is not None
        if other := by_purpose.get(folder.purpose):
            raise UsageError(f"{top.path} has both {other.path.name} and {folder.path.name}", "keep one of them")
        by_purpose[folder.purpose] = folder
    if "train" not in by_purpose:
        first = next(iter(by_purpose.values())).path.name
        raise UsageError(f"{top.path} has {first} with classes in it but no train", "name the training images' so")
    parts = {purpose: _by_class(by_purpose[purpose]) for purpose in _PURPOSES if purpose in by_purpose}
    for purpose, files in parts.items():
        if unknown := [name for name in files if name not in parts["train"]]:
            raise UsageError(f"{top.path} has class {unknown[0]!r} for {purpose} but not for training")
    used = [by_purpose[purpose] for purpose in parts]
    warnings = [
        _unused(
            f"{plural(len(folder.every), 'image')} of {folder.path}",
            len(folder.every),
            "the folder holds no classes" if folder.purpose else "the folder is not a split",
        )
        for folder in top.classes
        if folder not in used
    ]
    empty = [folder for folder in top.folders if folder.purpose and not folder.every]
    names = ", ".join(f"`{folder.path.name}`" for folder in used)
    return Layout(parts, f"splits in folders {names}", (*warnings, *_left_out([top, *used], used, empty)))


def _as_classes(top: _Folder, plain: Sequence[_Folder]) -> Layout:
    neighbours = listed([f"`{folder.path.name}`" for folder in plain], _SHOWN)
    warnings = []
    for folder in top.classes:
        if folder.purpose is None:
            continue
        remedy = f"`dataset.root: {folder.path}`"
        if not folder.classes:
            remedy = "class folders in it"
        elif folder.purpose != "train":
            remedy = "a folder `train` next to it that holds the same class folders"
        elif len(folder.classes) > 1 and not folder.images and not any(other.classes for other in plain):
            raise UsageError(
                f"{folder.path} is either the training split, with classes {listed(sorted(folder.class_names))}, "
                f"or one class, as {neighbours} next to it",
                f"for the split, set {remedy}; for one class, move its images out of their subfolders",
            )
        warnings.append(f"{folder.path} is read as one class, as {neighbours} next to it; a split needs {remedy}")
    empty = [folder for folder in top.folders if not folder.every]
    return Layout({"train": _by_class(top)}, "each folder is a class", (*warnings, *_left_out([top], [top], empty)))


def _left_out(parents: Sequence[_Folder], used: Sequence[_Folder], empty: Sequence[_Folder]) -> list[str]:
    # `parents` hold no images of a class themselves, the class folders of `used` do, `empty` hold none.
    warnings = [
        _unused(f"{plural(number, 'image')} directly in {folder.path}", number, "no class folder holds them")
        for folder in parents
        if (number := len(folder.images))
    ]
    within = [folder for parent in used for folder in parent.folders]
    if without := list(dict.fromkeys([*empty, *(folder for folder in within if not folder.every)])):
        files = sum((folder.all_others() for folder in without), Counter[str]())
        held = f"no image among {_kinds(files)}" if files else "no files"
        warnings.append(_unused(listed([folder.path for folder in without], _SHOWN), len(without), held))
    if files := sum((folder.all_others() for folder in within if folder.every), Counter[str]()):
        subject = f"{_kinds(files)} in class folders of {parents[0].path}"
        warnings.append(_unused(subject, files.total(), "no images"))
    if links := [link for folder in within for link in folder.all_links()]:
        warnings.append(f"broken links: {listed(links, _LINKS)}")
    return warnings


def _kinds(files: Counter[str]) -> str:
    # 7 files (5 `.txt`, 2 `.heic`)
    kinds = [f"{number:,} {kind}" for kind, number in files.most_common()] if len(files) > 1 else [*files]
    return f"{plural(files.total(), 'file')} ({listed(kinds, _SHOWN)})"


def _unused(subject: str, number: int, reason: str) -> str:
    return f"{subject} {'is' if number == 1 else 'are'} left out: {reason}"
