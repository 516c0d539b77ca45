"""The interface of a dataset: its facts before loading, and its splits after."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autosparse.errors import MissingData

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]


@dataclass(frozen=True)
class Split:
    """Images of one purpose: integer `labels` `[images]`, and `read`, which gives the pixels of some of them.

    `read(numbers)` is uint8 `[len(numbers), height, width, channels]`; it may decode files, so that a split
    can be larger than memory.
    """

    labels: Array
    read: Callable[[Array], Array]

    @classmethod
    def of(cls, pixels: Array, labels: Array) -> Split:
        """A split whose pixels are in memory."""
        return cls(labels, lambda numbers: pixels[numbers])

    def part(self, numbers: Array) -> Split:
        """Some of the images, in the order of their numbers."""
        return Split(self.labels[numbers], lambda chosen: self.read(numbers[chosen]))


@dataclass(frozen=True)
class Splits:
    """The three splits of a set."""

    train: Split
    validation: Split
    test: Split


Problem = tuple[str, str]
"""What is not there, in one sentence, and how to get it, in another."""


@contextmanager
def fetching(name: str, folder: Path) -> Iterator[None]:
    """Make the folder that a download goes to. Raises MissingData when it, or the download, fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, RuntimeError, EOFError) as error:
        raise MissingData(
            f"{name} cannot be fetched to {folder}: {error}",
            "fetch it elsewhere, and name its folder in `dataset.root`",
        ) from error


@dataclass(frozen=True)
class Pool:
    """A labelled set as it comes, before images are chosen, resized and split.

    `load(size)` gives the images for training, those for validation and those for testing; None where the set
    has none of its own, and some of the training images are set aside. Images are scaled to `size` pixels
    unless it is None. `shape` is (channels, height, width) unscaled.
    """

    identity: Mapping[str, Any]
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    train_images: int
    load: Callable[[int | None], tuple[Split, Split | None, Split | None]]
    validation_images: int = 0
    test_images: int = 0
    missing: Callable[[], Problem | None] = lambda: None
    fetches: bool = False
    reading: str = ""
    """where images and labels come from, such as columns or folders; empty for published sets"""
    warnings: tuple[str, ...] = ()
    """one sentence for each kind of file, folder or label that is left out or renumbered"""

    @classmethod
    def absent(cls, identity: Mapping[str, Any], channels: int, problem: Problem) -> Pool:
        """A set of which nothing is known yet: the keys that it makes are of no run."""

        def load(size: int | None) -> tuple[Split, None, None]:
            raise AssertionError("a missing set is never loaded")

        return cls(identity, (channels, 32, 32), (), 0, load, missing=lambda: problem)


@dataclass(frozen=True)
class Source:
    """A dataset that can be planned with before its files are there.

    `identity` is what its content depends on, and enters keys: digests and choices, never a path. `missing`
    says in one sentence what is not there and in another how to get it, or gives None; `fetches` tells that
    `load` will download. `shape` is (channels, height, width). `train_images` is an estimate where classes
    are of different sizes, and so is `validation_images`. Unless it is `known`, shape and classes are guesses about
    files that are not there.
    """

    identity: Mapping[str, Any]
    shape: tuple[int, int, int]
    classes: int
    train_images: int
    test_images: int
    load: Callable[[], Splits]
    validation_images: int = 0
    known: bool = True
    missing: Callable[[], Problem | None] = lambda: None
    fetches: bool = False
    class_names: tuple[str, ...] = ()
    """in the order of their labels; empty unless the set is `known`"""
    reading: str = ""
    warnings: tuple[str, ...] = ()
    """both as those of its `Pool`"""
