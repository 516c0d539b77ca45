"""User-defined datasets, `path/to/file.py:factory` or `package.module:factory`, in all accepted return forms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from autosparse.datasets._base import MOST_CLASSES, Array, Pool, Split, datasets
from autosparse.datasets.decode import array_split, pixels_of
from autosparse.datasets.labels import IMAGE, LABEL, Classes, Role, classes_of, hardly_repeats
from autosparse.errors import UsageError
from autosparse.lazy_torch import numpy
from autosparse.store import Store, digest
from autosparse.text import listed
from autosparse.user_code import PATTERN, call, guarded, identity_of, label, load_factory

_SPLITS = ("train", "validation", "test")
_PAIRS = "give (image, label) for each item, or mappings with keys `image` and `label`"


@dataclass(frozen=True)
class Labelled:
    """Images uint8 `[images, height, width, channels]`, their labels, and the class names if the set has any."""

    pixels: Array
    labels: Array
    names: tuple[str, ...] | None
    reading: str
    """parts of the set with the images and with the labels"""


def _is_set(value: Any) -> bool:
    # Whether a value is one set of images and labels, rather than several or none.
    if isinstance(value, Mapping):
        return not {*_SPLITS} & set(value) and bool(_usual(value, IMAGE) or _usual(value, LABEL))
    if isinstance(value, tuple | list):
        items = len(value) > len(_SPLITS) and isinstance(value[0], Mapping | tuple)
        return items or (len(value) == 2 and len(getattr(value[1], "shape", ())) == 1)
    return _is_sequence(value)


def _labelled(part: Any, where: str) -> Labelled:
    # One split; `where` names it in errors.
    features = getattr(part, "features", None)
    features = features if isinstance(features, Mapping) else {}
    names, reading = getattr(part, "classes", None), "images first, labels second"
    if isinstance(part, tuple | list) and len(part) == 2 and not isinstance(part[0], Mapping):
        images, labels = part
    elif not isinstance(part, Mapping) and ((hasattr(part, "shape") and not features) or not _is_sequence(part)):
        hint = "give its `dataset`, not a loader of batches" if hasattr(part, "dataset") else None
        raise UsageError(
            f"{where}: must be (images, labels) or a torch dataset, not {_described(part)}",
            hint or "the factory gives ((images, labels), (images, labels)): for training and for testing",
        )
    else:
        columns = part if isinstance(part, Mapping) else _columns(part, where)
        if isinstance(columns, Mapping):
            image, label = (_key(columns, features, role, where) for role in (IMAGE, LABEL))
            images, labels = columns[image], columns[label]
            reading = f"`{image}` holds the images, `{label}` the labels"
            names = getattr(features.get(label), "names", None) if names is None else names
        else:
            images, labels = columns
        if not isinstance(part, Mapping) and images and _is_batch(images[0]):
            raise UsageError(
                f"{where}: item 0 is a batch of {len(images[0])} images, not one image and its label",
                "give the dataset that the batches are drawn from, or all images and labels as two arrays",
            )
    pixels = pixels_of(images, where)
    return Labelled(pixels, _labels(labels, len(pixels), where), _names(names, where), reading)


def _described(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a mapping with {', '.join(map(str, value)) or 'nothing'}"
    return f"{len(value)} items" if isinstance(value, tuple | list) else f"a {type(value).__name__}"


def _is_sequence(value: Any) -> bool:
    return hasattr(value, "__getitem__") and hasattr(value, "__len__")


def _columns(part: Any, where: str) -> Mapping[str, list[Any]] | tuple[list[Any], list[Any]]:
    # Columns of a dataset's items: the values of every key, or the first and second parts.
    items = [part[number] for number in range(len(part))]
    items = [item._asdict() if hasattr(item, "_asdict") else item for item in items]
    if items and isinstance(items[0], Mapping):
        for number, item in enumerate(items):
            if not isinstance(item, Mapping) or (absent := [key for key in items[0] if key not in item]):
                lacks = f"has no `{absent[0]}`" if isinstance(item, Mapping) else f"is {_described(item)}"
                raise UsageError(f"{where}: item 0 is {_described(items[0])} but item {number} {lacks}", _PAIRS)
        return {key: [item[key] for item in items] for key in items[0]}
    for number, item in enumerate(items):
        if not isinstance(item, tuple | list):
            raise UsageError(f"{where}: items must be (image, label) or mappings, not {_described(item)}", _PAIRS)
        if len(item) != 2:
            raise UsageError(f"{where}: item {number} has {len(item)} parts, not an image and a label", _PAIRS)
    return [item[0] for item in items], [item[1] for item in items]


def _is_batch(image: Any) -> bool:
    first = image[0] if isinstance(image, list) and image else None
    return getattr(image, "ndim", 0) > 3 or getattr(first, "ndim", 0) > 1 or hasattr(first, "getbands")


def _usual(keys: Iterable[Any], role: Role) -> list[Any]:
    return [key for key in keys if str(key).lower() in role.keys]


def _key(keys: Iterable[Any], features: Mapping[Any, Any], role: Role, where: str) -> Any:
    # By the features of Hugging Face sets, then by usual names.
    marked = [key for key in keys if type(features.get(key)).__name__ == role.feature]
    candidates = [key for key in marked if key == role.name] or marked or _usual(keys, role)
    if len(candidates) == 1:
        return candidates[0]
    several = f"several keys can be the {role.name}: {listed(candidates)}"
    none = f"no key is known as the {role.name}; the keys are {listed([*keys], 20)}"
    raise UsageError(f"{where}: {several if candidates else none}", _PAIRS)


def _labels(labels: Any, images: int, where: str) -> Array:
    try:
        values = numpy.asarray(labels)
    except ValueError:  # labels of several shapes
        values = numpy.asarray([*map(type, labels)])
    if values.shape == (images, 1):
        values = values[:, 0]
    if values.shape != (images,) or values.dtype.kind not in "biuU":
        raise UsageError(
            f"{where}: labels must be {images} whole numbers or names, one an image, but are {values.dtype} of shape "
            f"{list(values.shape)}"
        )
    return values


def _names(names: Any, where: str) -> tuple[str, ...] | None:
    if names is None:
        return None
    if isinstance(names, str | Mapping) or not _is_sequence(names):
        raise UsageError(f"{where}: `classes` must be a list of names but is {_described(names)}")
    if len(names) > MOST_CLASSES:
        raise UsageError(f"{where}: `classes` lists {len(names):,} names, above {MOST_CLASSES:,}")
    return tuple(map(str, names))


@datasets.register(name="FILE.py:FACTORY", pattern=PATTERN, user_code=True)
def user_code(name: str, **options: Any) -> Pool:
    """User code: `factory(**options)` in a file or `package.module` that returns training and test images.

    The factory returns `train`, `(train, test)`, `(train, validation, test)` or a mapping with these names. Each
    is a pair of arrays (images, labels), a torch dataset of such pairs, or either with keys `image` and `label`.
    Images are uint8 `[height, width, channels]`, float `[channels, height, width]` from 0 to 1 as from `ToTensor`,
    or PIL images. The factory's source and options, and the content of files and folders that options name,
    identify the set. `classes`, `size` and the other shared options are applied to the result; the factory does
    not receive them.
    """
    identity = identity_of(name, options)
    store, memory = Store.default(), f"dataset-{digest({**identity, 'facts': 2})}"  # version of the stored facts
    facts: _Facts | None = store.recall(memory, _Facts)
    if facts is None:
        facts = _facts(*_load(name, options))
        store.remember(memory, asdict(facts))

    def load(size: int | None) -> dict[str, Split]:
        parts, _ = _load(name, options)
        return {purpose: array_split((part.pixels, part.labels), size) for purpose, part in parts.items()}

    return Pool(
        identity={**identity, **facts.identity},
        shape=facts.shape,
        classes=facts.classes,
        images=Counter(facts.images),
        load=load,
        reading=facts.reading,
        warnings=facts.warnings,
    )


@dataclass(frozen=True)
class _Facts:
    # Remembered about the images that a factory returned.
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    images: dict[str, int]
    identity: dict[str, Any]
    reading: str
    warnings: tuple[str, ...]


def _facts(parts: Mapping[str, Labelled], classes: Classes) -> _Facts:
    train = parts["train"]
    channels, height, width = (train.pixels.shape[at] for at in (3, 1, 2))
    return _Facts(
        shape=(channels, height, width),
        classes=tuple(classes.names),
        images={purpose: len(part.labels) for purpose, part in parts.items()},
        identity=dict(classes.identity),
        reading=train.reading,
        warnings=classes.warnings,
    )


def _load(name: str, options: Mapping[str, Any]) -> tuple[dict[str, Labelled], Classes]:
    # The set that a factory returned; labels are class numbers.
    result = call(name, load_factory(name), **options)
    called = f"dataset `{label(name)}`"
    with guarded(name, "reading"):
        if _is_set(result):
            result = {"train": result}
        elif isinstance(result, tuple | list) and len(result) in (2, 3):
            names = _SPLITS if len(result) == 3 else ("train", "test")
            result = dict(zip(names, result, strict=True))
        if not isinstance(result, Mapping) or "train" not in result or set(result) - {*_SPLITS}:
            raise UsageError(
                f"{called} must give (train, test), (train, validation, test) or a mapping, not {_described(result)}",
                "each is (images, labels) or a torch dataset; a mapping needs `train`",
            )
        parts = {
            purpose: _labelled(part, f"{called}, {purpose}") for purpose, part in result.items() if part is not None
        }
        parts = {purpose: part for purpose, part in parts.items() if len(part.labels)}
        if "train" not in parts:
            raise UsageError(f"{called} gives no training images")
        shapes = {purpose: list(part.pixels.shape[1:]) for purpose, part in parts.items()}
        if other := next((purpose for purpose, shape in shapes.items() if shape != shapes["train"]), None):
            raise UsageError(f"{called} gives images of {shapes['train']} for train, of {shapes[other]} for {other}")
        classes = _classes(called, parts)
        for purpose, part in parts.items():
            numbers = numpy.asarray(classes.numbers_of(part.labels.tolist(), called), dtype="int64")
            parts[purpose] = replace(part, labels=numbers)
        return parts, classes


def _classes(called: str, parts: Mapping[str, Labelled]) -> Classes:
    if (names := parts["train"].names) is not None:
        return Classes(names, are_named=True)
    counts = {purpose: Counter(part.labels.tolist()) for purpose, part in parts.items()}
    classes = classes_of(counts, called)
    if hardly_repeats(counts["train"]):
        many = f"{called}: {len(classes.values):,} classes in {counts['train'].total():,} training images"
        return replace(classes, warnings=(*classes.warnings, f"{many}; labels may be identifiers"))
    return classes
