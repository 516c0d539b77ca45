"""Datasets by name, and the options that all share: selection, size and splits of their images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from annotated_types import Ge, Le, MinLen

from autosparse.datasets.labels import class_name
from autosparse.datasets.source import Pool, Source, Split, Splits
from autosparse.errors import MissingData, UsageError
from autosparse.registry import Registry, suggestion
from autosparse.text import listed

if TYPE_CHECKING:
    from autosparse.datasets.source import Array


_SHARE = 10
"""One in so many training images is set aside where a set has no images for a purpose and nothing is said."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Options of every dataset."""

    classes: Annotated[
        Annotated[tuple[str | int, ...], MinLen(2)] | None,
        "names or numbers of the classes to use, numbered anew in this order; by default all",
    ] = None
    images_per_class: Annotated[
        Annotated[int, Ge(1)] | None, "training images of each class, at most; by default all"
    ] = None
    size: Annotated[
        Annotated[int, Ge(1), Le(4096)] | None,
        "side in pixels of the square that images are scaled and centre-cropped to; by default as they are",
    ] = None
    validation: Annotated[
        Annotated[int, Ge(1)] | None,
        "training images set aside for every choice; by default the set's own validation images, or a tenth",
    ] = None
    test: Annotated[
        Annotated[int, Ge(1)] | None,
        "images set aside for testing where the set has no test images; by default a tenth",
    ] = None


def choose_part(pool: Pool, part: Part, name: str) -> Source:
    """The part of a set that a spec asks for. Raises UsageError where the set cannot give it.

    Images are taken in one fixed shuffled order, the same for every part, so that a smaller
    `images_per_class` is a subset of a larger one with the same validation and test images.
    """
    numbers = None if part.classes is None or not pool.classes else _numbers(part.classes, pool.classes, name)
    classes = len(part.classes) if part.classes is not None else len(pool.classes)
    if pool.classes and classes < 2:
        raise UsageError(f"dataset {name} has one class, {pool.classes[0]!r}: there is nothing to tell apart")
    share = classes / max(1, len(pool.classes))
    images = round(pool.train_images * share)
    train, validation, test = _sizes(pool, part, images, name)
    shape = pool.shape if part.size is None else (pool.shape[0], part.size, part.size)
    has_test = bool(pool.test_images)
    split: dict[str, Any] = {"validation": validation} if has_test else {"split": [train, validation, test]}
    chosen: dict[str, Any] = {"classes": numbers, "images_per_class": part.images_per_class, "size": part.size}

    def load() -> Splits:
        if (absent := pool.missing()) is not None and not pool.fetches:
            raise MissingData(*absent)
        return _split(pool, part, numbers, validation, test, name)

    return Source(
        identity={
            **pool.identity,
            **split,
            "order": "pcg64-0",
            **{key: value for key, value in chosen.items() if value is not None},
        },
        shape=shape,
        classes=classes,
        train_images=train if part.images_per_class is None else min(train, part.images_per_class * classes),
        test_images=round(pool.test_images * share) if has_test else test,
        load=load,
        validation_images=validation or round(pool.validation_images * share),
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
    # Training, validation and test images, before `images_per_class`.
    if pool.test_images and part.test is not None:
        raise UsageError(f"dataset {name} has test images of its own", "leave `test` out")
    aside = max(1, images // _SHARE)
    validation = part.validation or (0 if pool.validation_images else aside)
    test = 0 if pool.test_images else part.test or aside
    if images and images - validation - test < 1:
        raise UsageError(
            f"{validation + test} images cannot be set aside of the {images} of dataset {name}",
            "lower `validation`" + (" or `test`" if test else ""),
        )
    return max(1, images - validation - test), validation, test


def _split(pool: Pool, part: Part, numbers: Sequence[int] | None, validation: int, test: int, name: str) -> Splits:
    # `validation` and `test` training images are set aside: as many as the identity says, whatever classes hold.
    import numpy

    every, held_validation, held_test = (_only(split, numbers) for split in pool.load(part.size))
    assert every is not None
    # Sets come ordered by class or by writer: shuffled, so that every split has all of them.
    order = numpy.random.Generator(numpy.random.PCG64(0)).permutation(len(every.labels))
    if held_test is not None:  # the validation images come first
        held, last, rest = numpy.split(order, [validation, validation])
    else:
        rest, held, last = numpy.split(order, [-validation - test, -test])
    if part.images_per_class is not None:
        rest = _at_most(rest, every.labels, part.images_per_class)
    splits = Splits(
        train=every.part(rest),
        validation=every.part(held) if validation or held_validation is None else held_validation,
        test=every.part(last) if held_test is None else held_test,
    )
    hints = {
        "train": "lower `validation` or `test`",
        "validation": "set `validation` to how many to set aside of the training images",
        "test": "choose other `classes`",
    }
    for purpose, hint in hints.items():
        if not len(getattr(splits, purpose).labels):
            raise UsageError(f"dataset {name} has no {purpose} image of the classes that are used", hint)
    return splits


def _only(split: Split | None, numbers: Sequence[int] | None) -> Split | None:
    if split is None or numbers is None:
        return split
    import numpy

    renumbered = numpy.full(int(split.labels.max(initial=0)) + 1, -1)
    renumbered[[number for number in numbers if number < len(renumbered)]] = [
        index for index, number in enumerate(numbers) if number < len(renumbered)
    ]
    labels = renumbered[split.labels]
    kept = numpy.flatnonzero(labels >= 0)
    return Split(labels[kept], split.part(kept).read)


def _at_most(numbers: Array, labels: Array, limit: int) -> Array:
    # The first `limit` of every class, in the order they were in.
    import numpy

    ordered = numbers[numpy.argsort(labels[numbers], kind="stable")]
    classes = labels[ordered]
    first = numpy.searchsorted(classes, classes)  # where each one's class begins
    kept: Array = numbers[numpy.isin(numbers, ordered[numpy.arange(len(ordered)) - first < limit])]
    return kept


Dataset: TypeAlias = Callable[..., Pool]
datasets: Registry[Dataset] = Registry("dataset", "datasets", shared=Part)


def open_source(name: str, options: Mapping[str, Any]) -> Source:
    """The part of a registered dataset that options ask for. Raises UsageError where it cannot be given."""
    entry = datasets[name]
    given, shared = entry.apart(options)
    return choose_part(entry.function(**given), Part(**shared), name)
