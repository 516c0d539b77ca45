"""Selection and splitting of images."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autosparse.datasets import Part, Pool, Source, Split, Splits, datasets, open_source
from autosparse.datasets._base import choose_part
from autosparse.errors import MissingData, UsageError

PURPOSES = ("train", "validation", "test")


def numbered(labels: Any, first: int = 0) -> Split:
    """A split whose image number n is the two bytes of `first` + n."""
    numbers = numpy.arange(first, first + len(labels))
    pixels = numpy.stack([numbers // 256, numbers % 256], axis=1).astype("uint8").reshape(-1, 1, 2, 1)
    return Split(numpy.asarray(labels, dtype="int64"), pixels.__getitem__)


def pool_of(train: Any, validation: Any = None, test: Any = None, classes: int = 4) -> Pool:
    """A set with these labels, whose images encode their numbers: validation from 20,000, test from 40,000."""
    given = {"train": train, "validation": validation, "test": test}
    first = {"train": 0, "validation": 20_000, "test": 40_000}
    parts = {purpose: numbered(labels, first[purpose]) for purpose, labels in given.items() if labels is not None}
    return Pool(
        identity={"name": "numbers"},
        shape=(1, 1, 2),
        classes=tuple("abcdefgh"[:classes]),
        images=Counter({purpose: len(part.labels) for purpose, part in parts.items()}),
        load=lambda size: parts,
    )


def chosen(pool: Pool, **part: Any) -> Source:
    """The part of a set with these options."""
    return choose_part(pool, Part(**part), "numbers")


def numbers_of(split: Split) -> list[int]:
    """Return the numbers of a split's images."""
    pixels = split.read(numpy.arange(len(split.labels))).astype(int)
    return [int(256 * high + low) for high, low in pixels[:, 0, :, 0]]


def counts(splits: Splits) -> tuple[int, ...]:
    """Images of each split."""
    return tuple(len(splits[purpose].labels) for purpose in PURPOSES)


EVEN = [number % 4 for number in range(100)]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({}, (80, 10, 10)),
        ({"validation": 7}, (83, 7, 10)),
        ({"test": 30}, (60, 10, 30)),
        ({"validation": 1, "test": 98}, (1, 1, 98)),
        ({"images_per_class": 5}, (20, 10, 10)),
        ({"images_per_class": 1000}, (80, 10, 10)),
        ({"classes": ("b", "d")}, (40, 5, 5)),
        ({"classes": ("b", "d"), "images_per_class": 3, "validation": 10}, (6, 10, 5)),
    ],
)
def test_sizes_of_a_set_without_splits(part: dict[str, Any], expected: tuple[int, ...]) -> None:
    """A tenth each is held out by default, and planned sizes equal loaded ones."""
    source = chosen(pool_of(EVEN), **part)

    assert expected == counts(source.load())
    assert expected[0] == source.train_images
    assert expected[2] == source.test_images


@pytest.mark.parametrize(
    ("validation", "test", "part", "expected"),
    [
        (None, 12, {}, (90, 10, 12)),
        (None, 12, {"validation": 3}, (97, 3, 12)),
        (8, 12, {}, (100, 8, 12)),
        (8, 12, {"validation": 20}, (80, 20, 12)),
        (8, None, {}, (90, 8, 10)),
        (8, None, {"test": 5}, (95, 8, 5)),
    ],
)
def test_own_splits_are_kept(validation: int | None, test: int | None, part: Any, expected: tuple[int, ...]) -> None:
    """A set's own test images are tested on, and its own validation images used unless some are set aside."""
    pool = pool_of(EVEN, validation and [0, 1, 2, 3] * (validation // 4), test and [0, 1, 2, 3] * (test // 4))
    splits = chosen(pool, **part).load()

    assert expected == counts(splits)
    assert (test is not None) == (min(numbers_of(splits["test"])) >= 40_000)
    has_validation = validation is not None and "validation" not in part
    assert has_validation == (min(numbers_of(splits["validation"])) >= 20_000)


def test_fewer_images_are_a_subset() -> None:
    """A smaller `images_per_class` is part of a larger one, in the same order, and tested on the same images."""
    loaded = [chosen(pool_of(EVEN), images_per_class=count).load() for count in (2, 5, 11)]
    for less, more in pairwise(loaded):
        kept = set(numbers_of(less["train"]))

        assert numbers_of(less["train"]) == [number for number in numbers_of(more["train"]) if number in kept]
        assert numbers_of(less["validation"]) == numbers_of(more["validation"])
        assert numbers_of(less["test"]) == numbers_of(more["test"])


def test_classes_are_numbered_anew() -> None:
    """Classes are named or numbered, and take the numbers 0, 1, ... in the order they are given in."""
    by_name = chosen(pool_of(EVEN), classes=("d", "b")).load()
    by_number = chosen(pool_of(EVEN), classes=(3, 1)).load()

    for purpose in PURPOSES:
        split = by_name[purpose]
        assert [{3: 0, 1: 1}[number % 4] for number in numbers_of(split)] == split.labels.tolist()
        assert numbers_of(split) == numbers_of(by_number[purpose])
    assert 2 == chosen(pool_of(EVEN), classes=("d", "b")).classes


@pytest.mark.parametrize(
    ("part", "message", "hint"),
    [
        ({"classes": ("a", "zz")}, "dataset numbers has no class 'zz'", "its classes: a, b, c, d"),
        ({"classes": ("a", 4)}, "has no class 4", "its classes: a, b, c, d"),
        ({"classes": ("a", -1)}, "has no class -1", "its classes: a, b, c, d"),
        ({"classes": ("a", "b", 0)}, "names 0 twice", None),
        ({"classes": ("a", "a")}, "names 'a' twice", None),
        ({"validation": 90}, "100 images cannot be set aside of the 100", "lower `validation` or `test`"),
        ({"test": 99}, "109 images cannot be set aside of the 100", "lower `validation` or `test`"),
        ({"classes": ("a", "b"), "validation": 45}, "50 images cannot be set aside of the 50", "lower"),
    ],
)
def test_what_cannot_be_chosen(part: dict[str, Any], message: str, hint: str | None) -> None:
    """An impossible choice is an error before anything is loaded, with the remedy."""
    with pytest.raises(UsageError) as caught:
        chosen(pool_of(EVEN), **part)

    assert message in caught.value.message
    assert (hint or "") in (caught.value.hint or "")


def test_a_misspelt_class_is_suggested() -> None:
    """Near names are suggested."""
    pool = replace(pool_of(EVEN), classes=("airplane", "ship", "truck", "frog"))
    with pytest.raises(UsageError) as caught:
        chosen(pool, classes=("ship", "airplan"))

    assert "did you mean `airplane`?" == caught.value.hint


def test_a_number_that_is_also_a_name_is_refused() -> None:
    """Of classes called 1, 2, 3, 4 nobody knows which one number 1 is; in quotes it is a name."""
    pool = replace(pool_of(EVEN), classes=("1", "2", "3", "4"))
    with pytest.raises(UsageError, match="class 1 of dataset numbers can be the one of that name") as caught:
        chosen(pool, classes=(1, 2))

    assert "write names in quotes, and no numbers" == caught.value.hint
    assert [0, 1] == chosen(pool, classes=("1", "2")).identity["classes"]
    assert [0, 1] == chosen(replace(pool, classes=tuple("0123")), classes=(0, 1)).identity["classes"]


def test_test_images_of_its_own_are_not_set_aside() -> None:
    """`test` is refused where the set has test images."""
    with pytest.raises(UsageError, match="has test images") as caught:
        chosen(pool_of(EVEN, test=[0, 1]), test=5)

    assert "leave `test` out" == caught.value.hint


@pytest.mark.parametrize(
    ("pool", "part", "purpose"),
    [
        (pool_of(EVEN, validation=[0, 0], test=[1, 2]), {"classes": ("b", "c")}, "validation"),
        (pool_of(EVEN, test=[0, 0]), {"classes": ("b", "c")}, "test"),
        (
            pool_of([0] * 90 + [1] * 5 + [2] * 5, classes=3),
            {"classes": ("b", "c"), "test": 30, "validation": 30},
            "train",
        ),
    ],
)
def test_an_empty_split_is_an_error(pool: Pool, part: dict[str, Any], purpose: str) -> None:
    """If the chosen classes have no images for a purpose, loading says so."""
    with pytest.raises(UsageError, match=f"has no {purpose} image of the classes") as caught:
        chosen(pool, **part).load()

    assert caught.value.hint


def test_what_is_set_aside_is_what_the_identity_says() -> None:
    """If classes differ in size, a default and the same number written out are the same set."""
    pool = pool_of([0] * 70 + [1] * 20 + [2] * 10, classes=3)
    default = chosen(pool, classes=("a", "b"))
    _, validation, test = default.identity["split"]
    written = chosen(pool, classes=("a", "b"), validation=validation, test=test)

    assert (78, 6, 6) == counts(default.load()) == counts(written.load())
    assert default.identity == written.identity
    assert 55 == default.train_images  # an estimate: classes are taken to be of one size


PARTS: list[dict[str, Any]] = [
    {},
    {"validation": 11},
    {"test": 11},
    {"classes": ("a", "b")},
    {"classes": ("b", "a")},
    {"classes": ("a", "b", "c")},
    {"images_per_class": 3},
    {"images_per_class": 4},
    {"size": 2},
    {"size": 3},
]


def test_every_option_is_part_of_the_identity() -> None:
    """No two different parts have the same identity; the same part, however it is written, has one."""
    identities = [chosen(pool_of(EVEN), **part).identity for part in PARTS]

    assert all(one not in identities[:at] for at, one in enumerate(identities))
    assert identities[0] == chosen(pool_of(EVEN), validation=10, test=10).identity
    assert identities[3] == chosen(pool_of(EVEN), classes=(0, "b")).identity


def test_the_size_is_the_shape() -> None:
    """`size` is the height and the width of what the source promises."""
    assert (1, 1, 2) == chosen(pool_of(EVEN)).shape
    assert (1, 5, 5) == chosen(pool_of(EVEN), size=5).shape


def test_a_missing_set_can_be_planned_with_but_not_loaded() -> None:
    """A missing set has a source that names the missing files; loading it raises, unless it is fetched."""
    pool = replace(pool_of(EVEN), missing=lambda: ("it is gone", "get it"))
    source = chosen(pool)

    assert ("it is gone", "get it") == source.missing()
    with pytest.raises(MissingData, match="it is gone") as caught:
        source.load()
    assert "get it" == caught.value.hint
    assert (80, 10, 10) == counts(chosen(replace(pool, fetches=True)).load())


def test_a_set_of_which_nothing_is_known() -> None:
    """Without files, even classes by name give a source, which says that it is a guess."""
    pool = replace(pool_of([]), classes=(), missing=lambda: ("it is gone", "get it"))

    assert not chosen(pool).known
    assert 2 == chosen(pool, classes=("cat", "dog")).classes
    assert chosen(pool_of(EVEN)).known


labelled = st.integers(2, 6).flatmap(
    lambda classes: st.tuples(st.just(classes), st.lists(st.integers(0, classes - 1), min_size=30, max_size=300))
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(labelled, st.integers(1, 8), st.integers(1, 8), st.none() | st.integers(1, 9))
def test_splits_share_nothing_and_leave_nothing_out(
    result: tuple[int, list[int]], validation: int, test: int, limit: int | None
) -> None:
    """Splits are disjoint, have their labels, and are everything unless fewer images are asked for."""
    classes, labels = result
    source = chosen(pool_of(labels, classes=classes), validation=validation, test=test, images_per_class=limit)
    splits = source.load()
    numbers = [numbers_of(splits[purpose]) for purpose in PURPOSES]
    together = [number for part in numbers for number in part]

    assert (validation, test) == (len(numbers[1]), len(numbers[2]))
    assert len(together) == len(set(together))
    for part, purpose in zip(numbers, PURPOSES, strict=True):
        assert [labels[number] for number in part] == splits[purpose].labels.tolist()
    if limit is None:
        assert set(range(len(labels))) == set(together)
    else:
        assert limit >= max(numpy.bincount(splits["train"].labels))
    assert numbers == [numbers_of(source.load()[purpose]) for purpose in PURPOSES]


def test_a_part_of_a_part() -> None:
    """A split's part reads the images that its numbers name, in their order, also of a part."""
    part = numbered([0, 1, 2, 3, 4]).part(numpy.array([4, 0, 3])).part(numpy.array([2, 0]))

    assert [3, 4] == part.labels.tolist() == numbers_of(part)


def test_every_dataset_takes_the_shared_options() -> None:
    """`Part`'s options are options of every dataset, with help."""
    for entry in datasets:
        assert {"classes", "images_per_class", "size", "validation", "test"} <= set(entry.options)
        assert all(option.help for option in entry.options.values())


def test_digits_are_split_as_ever() -> None:
    """The digits: 1,197 / 300 / 300 of 8 x 8, every class in every split."""
    source = open_source("digits", {"validation": 300, "test": 300})

    assert (1197, 300, 300) == counts(splits := source.load())
    assert [set(range(10))] * 3 == [set(splits[purpose].labels.tolist()) for purpose in PURPOSES]


@pytest.mark.parametrize("shape", [(1, 1, 16_000), (1, 80, 6000), (5000, 8, 8), (3, 4096, 4096)])
def test_images_of_any_shape_are_taken(shape: tuple[int, int, int]) -> None:
    """Signals, spectrograms and many channels too: the number of values has a limit, not a side."""
    assert shape == chosen(replace(pool_of(EVEN), shape=shape)).shape


@pytest.mark.parametrize(("shape", "part"), [((3, 4096, 4097), {}), ((4, 8, 8), {"size": 4096})])
def test_images_of_too_many_values_are_refused(shape: tuple[int, int, int], part: dict[str, Any]) -> None:
    """As they are, or as they are scaled; the error shows the whole shape."""
    with pytest.raises(UsageError, match=r"has images of [34] x 4096 x 409[67], above 50,331,648 values") as caught:
        chosen(replace(pool_of(EVEN), shape=shape), **part)

    assert "`dataset.size`" in (caught.value.hint or "")
