"""Scan of a dataset: every image is read, and counted by split, size, mode and class; broken and equal images."""

from __future__ import annotations

import hashlib
import warnings
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import combinations_with_replacement
from typing import Any

from autosparse.backends import this_machine
from autosparse.datasets._base import Array, Source, Split, Splits
from autosparse.datasets.decode import decoded
from autosparse.errors import MissingData, StepError
from autosparse.lazy_torch import numpy
from autosparse.store import Store, digest
from autosparse.text import plural

_VERSION = 1  # of the remembered scans
_AT_ONCE = 64  # images in memory
_MODES = {1: "L", 3: "RGB"}  # channels -> Pillow's name, for images that are arrays
_NAMED = 1000  # pairs of equal images that are named


@dataclass(frozen=True)
class Broken:
    """An image that cannot be read: its split, the name of its file or row, and the reason."""

    split: str
    name: str
    reason: str


@dataclass(frozen=True)
class Sizes:
    """Image sizes as (width, height): the smallest and the largest by area, and the most common with its images."""

    smallest: tuple[int, int]
    largest: tuple[int, int]
    most_common: tuple[int, int]
    images: int
    different: int


@dataclass(frozen=True)
class SplitScan:
    """Contents of one split; `modes` maps Pillow's name of a pixel format, `classes` a class to its images."""

    split: str
    images: int
    sizes: Sizes | None
    modes: dict[str, int]
    classes: dict[str, int]
    outside: int = 0
    """images with a label of no class"""


@dataclass(frozen=True)
class Equal:
    """Images of two splits, or of one, with equal pixels: their number, the names of pairs, and conflicting labels."""

    splits: tuple[str, str]
    images: int
    conflicting: int
    """those whose labels differ"""
    pairs: list[tuple[str, str]]


@dataclass(frozen=True)
class Scan:
    """Contents of a dataset by split, with every broken image, and the images that are equal."""

    splits: list[SplitScan]
    broken: list[Broken] = field(default_factory=list)
    equal: list[Equal] = field(default_factory=list)
    scaled: bool = False
    """true if images are scaled to one size, so that they may differ"""

    def json(self) -> dict[str, Any]:
        """Return the value in `plan --scan --json`."""
        return asdict(self)

    @property
    def differs_in_size(self) -> bool:
        """True if images have several sizes and are not scaled to one: no run can read them."""
        shapes = {one.sizes.most_common for one in self.splits if one.sizes}
        return not self.scaled and (
            len(shapes) > 1 or any(one.sizes and one.sizes.different > 1 for one in self.splits)
        )

    def check(self) -> None:
        """Raise MissingData if an image is broken."""
        if self.broken:
            number, images = len(self.broken), sum(one.images for one in self.splits)
            raise MissingData(f"{number:,} of {plural(images, 'image')} cannot be read", "remove or replace them")


def scan_source(source: Source, observe: Callable[[int, int], None] = lambda done, total: None) -> Scan:
    """Read every image of a dataset; a scan without broken or equal images is remembered by the dataset's content.

    Args:
        source: Dataset, which must not be missing.
        observe: Function that is called with the images read so far and all images.

    Returns:
        The scan.

    Raises:
        MissingData: If files are missing.
        UsageError: If labels are missing or belong to no class.
    """
    store, memory = Store.default(), f"scan-{digest([_VERSION, dict(source.identity)])}"
    known: Scan | None = store.recall(memory, Scan)
    if known is not None:
        return known
    splits = source.load()
    total, done = sum(len(split.labels) for split in splits.values()), 0
    results, broken, read = [], list[Broken](), dict[str, _Seen]()
    for name, split in splits.items():
        seen = _Seen()
        for number, image in enumerate(_images(split)):
            seen.add(number, image, broken, name)
            if (done := done + 1) % _AT_ONCE == 0 or done == total:
                observe(done, total)
        results.append(seen.result(name, split, source.class_names))
        read[name] = seen
    scan = Scan(results, broken, [*_equal(splits, read)], "size" in source.identity)
    if not broken and not scan.equal:  # names of files are not part of the content
        store.note(memory, scan.json())
    return scan


@dataclass(frozen=True)
class _Image:
    name: str
    mode: str = ""
    size: tuple[int, int] = (0, 0)
    digest: bytes = b""
    problem: str = ""


def _images(split: Split) -> Iterator[_Image]:
    # Every image in order; few are in memory at once.
    numbers, workers = numpy.arange(len(split.labels)), this_machine().cores
    with ThreadPoolExecutor(workers) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, on damaged metadata and large images
        for start in range(0, len(numbers), _AT_ONCE):
            chunk = numbers[start : start + _AT_ONCE]
            if split.encoded is None:
                pixels = split.read(chunk)
                yield from (_described(f"image {n}", "", image) for n, image in zip(chunk, pixels, strict=True))
            else:
                yield from pool.map(partial(_decoded, split.encoded), chunk.tolist())


def _decoded(encoded: Callable[[int], tuple[str, bytes]], number: int) -> _Image:
    try:
        name, data = encoded(number)
    except MissingData as error:
        name, _, reason = error.message.partition(" cannot be read: ")
        return _Image(name, problem=reason or error.message)
    try:
        return _described(name, *decoded(name, data, 3, None))
    except StepError as error:
        return _Image(name, problem=error.message.removeprefix(f"{name} cannot be decoded: "))


def _described(name: str, mode: str, pixels: Array) -> _Image:
    height, width, channels = pixels.shape
    content = hashlib.sha256(repr(pixels.shape).encode() + numpy.ascontiguousarray(pixels).tobytes()).digest()
    return _Image(name, mode or _MODES.get(channels, f"{channels} channels"), (width, height), content[:8])


@dataclass
class _Seen:
    # Counts of a split while it is read; 16 bytes an image.
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    digests: array[int] = field(default_factory=lambda: array("Q"))
    numbers: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, number: int, image: _Image, broken: list[Broken], split: str) -> None:
        if image.problem:
            broken.append(Broken(split, image.name, image.problem))
            return
        self.sizes[image.size] += 1
        self.modes[image.mode] += 1
        self.digests.append(int.from_bytes(image.digest, "little"))
        self.numbers.append(number)

    def result(self, name: str, split: Split, class_names: Sequence[str]) -> SplitScan:
        counts = Counter(split.labels.tolist())
        sizes = None
        if self.sizes:
            by_area = sorted(self.sizes, key=lambda size: (size[0] * size[1], size))
            common, images = self.sizes.most_common(1)[0]
            sizes = Sizes(by_area[0], by_area[-1], common, images, len(self.sizes))
        classes = {class_name: counts.pop(number, 0) for number, class_name in enumerate(class_names)}
        return SplitScan(name, len(split.labels), sizes, dict(self.modes.most_common()), classes, sum(counts.values()))


def _equal(splits: Splits, read: Mapping[str, _Seen]) -> Iterator[Equal]:
    # Equal images within each split and between each two, by the first with the same digest.
    for one, other in combinations_with_replacement(read, 2):
        digests = numpy.frombuffer(read[one].digests, dtype="uint64")
        order = numpy.argsort(digests, kind="stable")
        digests, numbers = digests[order], numpy.frombuffer(read[one].numbers, dtype="uint64")[order]
        wanted = numpy.frombuffer(read[other].digests, dtype="uint64")
        second = numpy.frombuffer(read[other].numbers, dtype="uint64")
        if not len(digests) or not len(wanted):
            continue
        at = numpy.minimum(numpy.searchsorted(digests, wanted), len(digests) - 1)
        first = numbers[at]
        hits = digests[at] == wanted
        if one == other:
            hits &= first != second
        first, second = first[hits].astype("int64"), second[hits].astype("int64")
        if len(first):
            conflicting = int((splits[one].labels[first] != splits[other].labels[second]).sum())
            pairs = [
                (_name(splits, one, a), _name(splits, other, b))
                for a, b in zip(first[:_NAMED].tolist(), second[:_NAMED].tolist(), strict=True)
            ]
            yield Equal((one, other), len(first), conflicting, pairs)


def _name(splits: Splits, split: str, number: int) -> str:
    encoded = splits[split].encoded
    return encoded(number)[0] if encoded else f"image {number} of {split}"
