"""The user's own sets, by `path/to/file.py:factory` or `package.module:factory`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autosparse.datasets import datasets
from autosparse.datasets.pictures import array_split, pixels_of
from autosparse.datasets.source import Pool, Split
from autosparse.errors import UsageError
from autosparse.own import PATTERN, call, content_of, label, load_own, sources, told
from autosparse.store import Store, digest

if TYPE_CHECKING:
    from autosparse.datasets.source import Array

_PURPOSES = ("train", "validation", "test")


@datasets.register(name="FILE.py:FACTORY", pattern=PATTERN, own_code=True)
def own(name: str, **options: Any) -> Pool:
    """Your own: `factory(**options)` in a file or `package.module`, giving training and test images.

    The factory returns `train`, `(train, test)`, `(train, validation, test)` or a mapping with these names. Each
    is a pair of arrays (images, labels) or a torch dataset of such pairs.
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
    store, memory = Store.default(), f"dataset-{digest(identity)}"
    if (facts := store.recall(memory)) is None:
        parts = _load(name, options)
        facts = {
            "shape": [parts["train"][0].shape[at] for at in (3, 1, 2)],
            "classes": _classes(name, parts),
            "images": {purpose: len(labels) for purpose, (_, labels, _) in parts.items()},
        }
        store.remember(memory, facts)

    def load(size: int | None) -> tuple[Split, Split | None, Split | None]:
        found = {key: array_split((pixels, labels), size) for key, (pixels, labels, _) in _load(name, options).items()}
        return found["train"], found.get("validation"), found.get("test")

    return Pool(
        identity=identity,
        shape=tuple(facts["shape"]),
        classes=tuple(facts["classes"]),
        train_images=facts["images"]["train"],
        validation_images=facts["images"].get("validation", 0),
        test_images=facts["images"].get("test", 0),
        load=load,
    )


def _load(name: str, options: Mapping[str, Any]) -> dict[str, tuple[Array, Array, Any]]:
    # Purpose -> pixels uint8 [images, height, width, channels], labels, and what the factory gave.
    found = call(name, load_own(name), **options)
    with told(name, "reading"):
        if _is_set(found):
            found = {"train": found}
        elif isinstance(found, tuple | list) and len(found) in (2, 3):
            names = _PURPOSES if len(found) == 3 else ("train", "test")
            found = dict(zip(names, found, strict=True))
        if not isinstance(found, Mapping) or "train" not in found or set(found) - set(_PURPOSES):
            raise UsageError(
                f"dataset `{label(name)}` must give (train, test), (train, validation, test) or a mapping, not "
                f"{_told(found)}",
                "each is (images, labels) or a torch dataset; a mapping needs `train`",
            )
        parts = {purpose: (*_arrays(name, purpose, part), part) for purpose, part in found.items() if part is not None}
        parts = {purpose: part for purpose, part in parts.items() if len(part[1])}
        if "train" not in parts:
            raise UsageError(f"dataset `{label(name)}` gives no training images")
        shapes = {purpose: list(pixels.shape[1:]) for purpose, (pixels, _, _) in parts.items()}
        if other := next((purpose for purpose, shape in shapes.items() if shape != shapes["train"]), None):
            raise UsageError(
                f"dataset `{label(name)}` gives images of {shapes['train']} for train, of {shapes[other]} for {other}"
            )
        return parts


def _is_set(found: Any) -> bool:
    # Images and labels, or a torch dataset, rather than several of them.
    if isinstance(found, tuple | list):
        return len(found) == 2 and len(getattr(found[1], "shape", ())) == 1
    return not isinstance(found, Mapping) and hasattr(found, "__getitem__") and hasattr(found, "__len__")


def _arrays(name: str, purpose: str, part: Any) -> tuple[Array, Array]:
    import numpy

    if isinstance(part, tuple | list) and len(part) == 2:
        images, labels = part
    elif hasattr(part, "shape") or not hasattr(part, "__getitem__"):
        raise UsageError(
            f"dataset `{label(name)}`, {purpose}: must be (images, labels) or a torch dataset, not {_told(part)}",
            "the factory gives ((images, labels), (images, labels)): for training and for testing",
        )
    else:
        items = [part[number] for number in range(len(part))]
        images, labels = [item[0] for item in items], [item[1] for item in items]
    where = f"dataset `{label(name)}`, {purpose}"
    pixels = pixels_of(images, where)
    numbers = numpy.asarray(labels)
    if numbers.shape != (len(pixels),) or not numpy.issubdtype(numbers.dtype, numpy.integer):
        raise UsageError(
            f"{where}: labels must be {len(pixels)} whole numbers, one an image, but are {numbers.dtype} of shape "
            f"{list(numbers.shape)}"
        )
    if len(numbers) and numbers.min() < 0:
        raise UsageError(f"{where}: labels must be at least 0 but one is {numbers.min()}")
    return pixels, numbers.astype("int64")


def _classes(name: str, parts: Mapping[str, tuple[Array, Array, Any]]) -> list[str]:
    highest = max(int(labels.max(initial=-1)) for _, labels, _ in parts.values())
    named = getattr(parts["train"][2], "classes", None)
    if named is None:
        return [str(number) for number in range(highest + 1)]
    if highest >= len(named):
        raise UsageError(
            f"dataset `{label(name)}` has label {highest} but {len(named)} class{'es' * (len(named) != 1)}"
        )
    return [str(item) for item in named]


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a mapping with {', '.join(map(str, value)) or 'nothing'}"
    return f"{len(value)} items" if isinstance(value, tuple | list) else f"a {type(value).__name__}"
