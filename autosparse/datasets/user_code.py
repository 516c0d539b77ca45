"""User-defined datasets: `path/to/file.py:factory` or `package.module:factory`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from autosparse.datasets._base import datasets
from autosparse.datasets.decode import array_split
from autosparse.datasets.items import SPLITS, Labelled, described, is_set, labelled
from autosparse.datasets.labels import Classes, classes_of, hardly_repeats
from autosparse.datasets.source import Pool, Split
from autosparse.errors import UsageError
from autosparse.store import Store, digest
from autosparse.user_code import PATTERN, call, content_of, label, load_own, sources, told

_FACTS = 2
"""Version of what the store remembers of a set."""


@datasets.register(name="FILE.py:FACTORY", pattern=PATTERN, own_code=True)
def own(name: str, **options: Any) -> Pool:
    """Your own: `factory(**options)` in a file or `package.module`, giving training and test images.

    The factory returns `train`, `(train, test)`, `(train, validation, test)` or a mapping with these names. Each
    is a pair of arrays (images, labels), a torch dataset of such pairs, or either with keys `image` and `label`.
    Images are uint8 `[height, width, channels]`, float `[channels, height, width]` from 0 to 1 as `ToTensor`
    gives them, or PIL images. What the set contains is known by the factory's source and options, and by the
    content of files and folders that options name. `classes`, `size` and the other options that all datasets
    share are applied to what the factory gives; it does not receive them.
    """
    identity = {
        "name": "own",
        "factory": name.rpartition(":")[2],
        "sources": sources(name),
        "options": content_of(options),
    }
    store, memory = Store.default(), f"dataset-{digest({**identity, 'facts': _FACTS})}"
    if (facts := store.recall(memory)) is None:
        facts = _load(name, options).facts()
        store.remember(memory, facts)

    def load(size: int | None) -> tuple[Split, Split | None, Split | None]:
        parts = _load(name, options).parts
        splits = {purpose: array_split((part.pixels, part.labels), size) for purpose, part in parts.items()}
        return splits["train"], splits.get("validation"), splits.get("test")

    return Pool(
        identity={**identity, **facts["identity"]},
        shape=tuple(facts["shape"]),
        classes=tuple(facts["classes"]),
        train_images=facts["images"]["train"],
        validation_images=facts["images"].get("validation", 0),
        test_images=facts["images"].get("test", 0),
        load=load,
        reading=facts["reading"],
        warnings=tuple(facts["warnings"]),
    )


@dataclass(frozen=True)
class _Loaded:
    """The set that a factory returned: labels are numbers of its classes."""

    parts: Mapping[str, Labelled]
    classes: Classes

    def facts(self) -> dict[str, Any]:
        train = self.parts["train"]
        return {
            "shape": [train.pixels.shape[at] for at in (3, 1, 2)],
            "classes": self.classes.names,
            "images": {purpose: len(part.labels) for purpose, part in self.parts.items()},
            "identity": self.classes.identity,
            "reading": train.reading,
            "warnings": self.classes.warnings,
        }


def _load(name: str, options: Mapping[str, Any]) -> _Loaded:
    import numpy

    result = call(name, load_own(name), **options)
    called = f"dataset `{label(name)}`"
    with told(name, "reading"):
        if is_set(result):
            result = {"train": result}
        elif isinstance(result, tuple | list) and len(result) in (2, 3):
            names = SPLITS if len(result) == 3 else ("train", "test")
            result = dict(zip(names, result, strict=True))
        if not isinstance(result, Mapping) or "train" not in result or set(result) - {*SPLITS}:
            raise UsageError(
                f"{called} must give (train, test), (train, validation, test) or a mapping, not {described(result)}",
                "each is (images, labels) or a torch dataset; a mapping needs `train`",
            )
        parts = {
            purpose: labelled(part, f"{called}, {purpose}") for purpose, part in result.items() if part is not None
        }
        parts = {purpose: part for purpose, part in parts.items() if len(part.labels)}
        if "train" not in parts:
            raise UsageError(f"{called} gives no training images")
        shapes = {purpose: list(part.pixels.shape[1:]) for purpose, part in parts.items()}
        if other := next((purpose for purpose, shape in shapes.items() if shape != shapes["train"]), None):
            raise UsageError(f"{called} gives images of {shapes['train']} for train, of {shapes[other]} for {other}")
        classes = _classes(called, parts)
        numbers = {
            purpose: numpy.asarray(classes.numbers_of(part.labels.tolist(), called), dtype="int64")
            for purpose, part in parts.items()
        }
        return _Loaded({key: replace(part, labels=numbers[key]) for key, part in parts.items()}, classes)


def _classes(called: str, parts: Mapping[str, Labelled]) -> Classes:
    if (names := parts["train"].names) is not None:
        return Classes(names, are_named=True)
    counts = {purpose: Counter(part.labels.tolist()) for purpose, part in parts.items()}
    classes = classes_of(counts, called)
    if hardly_repeats(counts["train"]):
        many = f"{called}: {len(classes.values):,} classes in {counts['train'].total():,} training images"
        return replace(classes, warnings=(*classes.warnings, f"{many}; labels may be identifiers"))
    return classes
