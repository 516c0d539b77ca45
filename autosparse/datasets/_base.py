"""Registry of datasets: the interface of a set, and the shared options for selection, size and splits of images."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeAlias

from annotated_types import Ge, Le, MinLen

from autosparse.borders import border, in_short, is_out_of_memory, out_of_memory
from autosparse.datasets.labels import class_name
from autosparse.errors import AutosparseError, MissingData, UsageError
from autosparse.lazy_torch import numpy
from autosparse.registry import Registry, suggestion
from autosparse.text import listed

Array: TypeAlias = "numpy.ndarray[Any, Any]"

LARGEST_SIDE = 4096
"""Largest side in pixels that images are scaled to."""
MOST_VALUES = 3 * LARGEST_SIDE**2
"""Largest number of values of one image, of any shape."""
MOST_CLASSES = 2**20
_SHARE = 10
"""Inverse share of training images held out where a set lacks images for a purpose and the spec sets no number."""


@dataclass(frozen=True)
class Split:
    """Images of one purpose, such as training; pixels are read from files on demand.

    Attributes:
        labels: Class numbers, integers `[images]`.
        read: Function of image numbers that returns pixels, uint8 `[len(numbers), height, width, channels]`.
        encoded: Function of an image number that returns its name and file, for a split of encoded images.
    """

    labels: Array
    read: Callable[[Array], Array]
    encoded: Callable[[int], tuple[str, bytes]] | None = None

    def part(self, numbers: Array) -> Split:
        """Return a part of the images.

        Args:
            numbers: Image numbers, integers `[part]`.

        Returns:
            The images in the order of the numbers.

        Examples:
            >>> pixels = numpy.zeros((3, 8, 8, 1), dtype=numpy.uint8)
            >>> split = Split(numpy.array([4, 5, 6]), lambda numbers: pixels[numbers])
            >>> split.part(numpy.array([2, 0])).labels.tolist()
            [6, 4]
        """
        encoded = self.encoded
        named = None if encoded is None else lambda number: encoded(int(numbers[number]))
        return Split(self.labels[numbers], lambda chosen: self.read(numbers[chosen]), named)


Splits = Mapping[str, Split]
"""Purpose -> split; a `Source` has train, validation and test."""

Problem = tuple[str, str]
"""Missing data in one sentence, and its remedy in another."""


@dataclass(frozen=True)
class Pool:
    """Labelled set as published, before images are selected, resized and split.

    Attributes:
        identity: JSON data of cache keys: digests and choices, never a path.
        shape: Shape of one image before scaling: (channels, height, width).
        classes: Names of the classes, in the order of their labels.
        images: Purpose (`train`, `validation`, `test`) -> number of images.
        load: Function of a side in pixels that returns the splits, scaled to squares of it; None leaves the size.
        missing: Function that returns the missing data and its remedy, or None.
        fetches: Whether `load` downloads missing files.
        reading: Source of images and labels, such as columns or folders; empty for published sets.
        warnings: One sentence for each kind of file, folder or label that is ignored or renumbered.
    """

    identity: Mapping[str, Any]
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    images: Counter[str]
    load: Callable[[int | None], Splits]
    missing: Callable[[], Problem | None] = lambda: None
    fetches: bool = False
    reading: str = ""
    warnings: tuple[str, ...] = ()

    @classmethod
    def absent(cls, identity: Mapping[str, Any], channels: int, problem: Problem) -> Pool:
        """Return a set whose files are missing: no run shares its cache keys.

        Args:
            identity: JSON data of cache keys.
            channels: Number of channels to plan with.
            problem: Missing data and its remedy, one sentence each.

        Returns:
            A set without classes and images.
        """
        return cls(identity, (channels, 32, 32), (), Counter(), lambda size: {}, missing=lambda: problem)


@dataclass(frozen=True)
class Source:
    """Dataset that can be planned with before its files exist.

    `identity` enters cache keys: digests and choices, never a path. `fetches` says that `load` downloads. `shape` is
    (channels, height, width). Image counts are estimates where classes differ in size. Unless the source is `known`,
    shape and classes are guesses about missing files.
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
    """names in the order of their labels; empty unless the set is `known`"""
    reading: str = ""
    warnings: tuple[str, ...] = ()
    """`reading` and `warnings` as in its `Pool`"""


_Number = Annotated[int, Ge(1)] | None


@dataclass(frozen=True, kw_only=True)
class Part:
    """Options of every dataset."""

    classes: Annotated[
        Annotated[tuple[str | int, ...], MinLen(2)] | None,
        "names or numbers of the classes to use, renumbered in this order; default: all",
    ] = None
    images_per_class: Annotated[_Number, "maximum number of training images per class; default: all"] = None
    size: Annotated[
        Annotated[int, Ge(1), Le(LARGEST_SIDE)] | None,
        "image side in pixels after scaling and centre crop; default: no scaling",
    ] = None
    validation: Annotated[
        _Number, "number of training images held out for validation; default: the set's validation images, or a tenth"
    ] = None
    test: Annotated[
        _Number, "number of images held out for testing if the set has no test images; default: a tenth"
    ] = None


def choose_part(pool: Pool, part: Part, name: str) -> Source:
    """Return the part of a set that a spec requests.

    Images are shuffled in one fixed order: a smaller `images_per_class` is a subset of a larger one.

    Args:
        pool: Labelled set.
        part: Classes, numbers and size of the images.
        name: Name of the set, for messages.

    Returns:
        Dataset with splits for training, validation and test.

    Raises:
        UsageError: If the set has too few classes or images.
        MissingData: If files are missing when the dataset is loaded.
    """
    numbers = None if part.classes is None or not pool.classes else _numbers(part.classes, pool.classes, name)
    classes = len(part.classes) if part.classes is not None else len(pool.classes)
    if pool.classes and classes < 2:
        raise UsageError(f"dataset {name} has one class, {pool.classes[0]!r}: a classifier needs two")
    shape = pool.shape if part.size is None else (pool.shape[0], part.size, part.size)
    if math.prod(shape) > MOST_VALUES:
        size = " x ".join(map(str, shape))
        problem = f"dataset {name} has images of {size}, above {MOST_VALUES:,} values"
        raise UsageError(problem, "set `dataset.size`" if part.size is None else "lower `dataset.size`")
    if classes > MOST_CLASSES:
        raise UsageError(f"dataset {name} has {classes:,} classes, above {MOST_CLASSES:,}", "are they identifiers?")
    share = classes / max(1, len(pool.classes))
    images = round(pool.images["train"] * share)
    train, validation, test = _sizes(pool, part, images, name)
    has_test = bool(pool.images["test"])
    split: dict[str, Any] = {"validation": validation} if has_test else {"split": [train, validation, test]}
    chosen: dict[str, Any] = {"classes": numbers, "images_per_class": part.images_per_class, "size": part.size}

    def load() -> Splits:
        if (absent := pool.missing()) is not None and not pool.fetches:
            raise MissingData(*absent)
        with _reading(name):
            return _split(pool, part, numbers, validation, test, name)

    return Source(
        identity={**pool.identity, **split, "order": "pcg64-0", **{k: v for k, v in chosen.items() if v is not None}},
        shape=shape,
        classes=classes,
        train_images=train if part.images_per_class is None else min(train, part.images_per_class * classes),
        test_images=round(pool.images["test"] * share) if has_test else test,
        load=load,
        validation_images=validation or round(pool.images["validation"] * share),
        known=bool(pool.classes),
        missing=pool.missing,
        fetches=pool.fetches,
        class_names=pool.classes if numbers is None else tuple(pool.classes[number] for number in numbers),
        reading=pool.reading,
        warnings=pool.warnings,
    )


def _numbers(wanted: Sequence[str | int], known: Sequence[str], name: str) -> list[int]:
    numbers: list[int] = []
    by_name = {class_name(label): number for number, label in reversed([*enumerate(known)])}
    for item in wanted:
        named = by_name.get(class_name(item))
        if isinstance(item, int) and 0 <= item < len(known):
            if named not in (None, item):
                raise UsageError(
                    f"class {item} of dataset {name} can be the one of that name or the one of that number",
                    "write names in quotes, and no numbers",
                )
            number = item
        elif named is not None:
            number = named
        else:
            hint = (suggestion(item, known) if isinstance(item, str) else None) or f"its classes: {listed(known, 20)}"
            raise UsageError(f"dataset {name} has no class {item!r}", hint)
        if number in numbers:
            raise UsageError(f"`classes` of dataset {name} names {item!r} twice")
        numbers.append(number)
    return numbers


def _sizes(pool: Pool, part: Part, images: int, name: str) -> tuple[int, int, int]:
    # Number of training, validation and test images before `images_per_class`.
    if pool.images["test"] and part.test is not None:
        raise UsageError(f"dataset {name} has test images", "leave `test` out")
    aside = max(1, images // _SHARE)
    validation = part.validation or (0 if pool.images["validation"] else aside)
    test = 0 if pool.images["test"] else part.test or aside
    if images and images - validation - test < 1:
        raise UsageError(
            f"{validation + test} images cannot be set aside of the {images} of dataset {name}",
            "lower `validation`" + (" or `test`" if test else ""),
        )
    return max(1, images - validation - test), validation, test


def _split(pool: Pool, part: Part, numbers: Sequence[int] | None, validation: int, test: int, name: str) -> Splits:
    # Hold out `validation` and `test` training images: the numbers in the identity, whatever the class sizes.
    published = pool.load(part.size)
    if numbers is not None:
        published = {purpose: _only(split, numbers) for purpose, split in published.items()}
    every = published["train"]
    # Sets are ordered by class or by writer: shuffle, so that every split has all of them.
    order = numpy.random.Generator(numpy.random.PCG64(0)).permutation(len(every.labels))
    if "test" in published:  # validation images come first
        held, last, rest = numpy.split(order, [validation, validation])
    else:
        rest, held, last = numpy.split(order, [-validation - test, -test])
    if part.images_per_class is not None:
        rest = _at_most(rest, every.labels, part.images_per_class)
    splits = {
        "train": every.part(rest),
        "validation": every.part(held) if validation or "validation" not in published else published["validation"],
        "test": published.get("test", every.part(last)),
    }
    hints = {
        "train": "lower `validation` or `test`",
        "validation": "set `validation` to how many to set aside of the training images",
        "test": "choose other `classes`",
    }
    for purpose, hint in hints.items():
        if not len(splits[purpose].labels):
            raise UsageError(f"dataset {name} has no {purpose} image of the classes that are used", hint)
    return splits


def _only(split: Split, numbers: Sequence[int]) -> Split:
    renumbered = numpy.full(max(*numbers, split.labels.max(initial=0)) + 1, -1)
    renumbered[[*numbers]] = range(len(numbers))
    labels = renumbered[split.labels]
    kept = numpy.flatnonzero(labels >= 0)
    return replace(split.part(kept), labels=labels[kept])


def _at_most(numbers: Array, labels: Array, limit: int) -> Array:
    # The first `limit` images of every class, in their order.
    ordered = numbers[numpy.argsort(labels[numbers], kind="stable")]
    classes = labels[ordered]
    first = numpy.searchsorted(classes, classes)  # index at which each image's class begins
    kept: Array = numbers[numpy.isin(numbers, ordered[numpy.arange(len(ordered)) - first < limit])]
    return kept


datasets: Registry[Callable[..., Pool]] = Registry("dataset", "datasets", shared=Part)


def open_source(name: str, options: Mapping[str, Any]) -> Source:
    """Return a registered dataset without loading it.

    Args:
        name: Name in YAML, such as `cifar10`.
        options: Options of the dataset, those of every dataset included.

    Returns:
        Dataset with its identity, shape, classes and numbers of images; `load` reads it.

    Raises:
        UsageError: If the name or an option is impossible.

    Examples:
        >>> source = open_source("digits", {"classes": (0, 1)})
        >>> source.shape, source.classes
        ((1, 8, 8), 2)
    """
    entry = datasets[name]
    given, shared = entry.apart(options)
    with _reading(name):
        pool = entry.function(**given)
    return choose_part(pool, Part(**shared), name)


def _reading(name: str) -> AbstractContextManager[None]:
    # Files of datasets may hold anything, and their libraries raise anything about it.
    def refuse(error: BaseException) -> AutosparseError:
        if is_out_of_memory(error):
            return out_of_memory(f"reading dataset {name}", error)
        kind = MissingData if isinstance(error, OSError) else UsageError
        return kind(f"dataset {name} cannot be read: {in_short(error)}", "`autosparse --debug` shows all of it")

    return border(refuse)
