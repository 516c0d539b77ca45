"""Labels: their column or key, and the classes of their values."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autosparse.borders import is_out_of_memory
from autosparse.errors import UsageError
from autosparse.store import digest
from autosparse.text import listed, plural

Counts = Mapping[str, Mapping[Any, int]]  # split -> label -> number of images


@dataclass(frozen=True)
class Classes:
    """Classes of a set: the label of each, in order, and sentences about unexpected labels.

    `identity` enters the set's identity. It is empty where labels are 0 to n - 1 or names in Unicode form NFC.
    """

    values: tuple[Any, ...]
    warnings: tuple[str, ...] = ()
    identity: Mapping[str, Any] = field(default_factory=dict)
    are_named: bool = False
    """true if the set names its classes: labels are then class numbers, or names"""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(map(class_name, self.values))

    def numbers_of(self, labels: Sequence[Any], where: str) -> list[int]:
        """Return the class number of each label. Raises UsageError for a label of no class."""
        known = {value: number for number, value in enumerate(self.values)}
        if self.are_named:
            known = {key: number for number, name in enumerate(self.names) for key in (name, number)}
        numbers, unknown = {}, []
        for label in dict.fromkeys(labels):
            is_number = isinstance(label, int) and (self.are_named or label in known)
            key = label if is_number else class_name(label)
            if key in known:
                numbers[label] = known[key]
            else:
                unknown.append(label)
        if unknown:
            classes = plural(len(self.values), "class", "classes")
            noun = "label" if len(unknown) == 1 else "labels"
            names = listed([*map(repr, unknown)], 20)
            raise UsageError(f"{where} has {noun} {names} but {classes}: {listed(self.names)}")
        return [numbers[label] for label in labels]


def class_name(label: object) -> str:
    """Return a label as the name of its class, in Unicode form NFC: forms that look alike are one name."""
    return unicodedata.normalize("NFC", str(label))


def classes_of(counts: Counts, where: str) -> Classes:
    """Return the classes of a set, numbered: integers by value, names alphabetically.

    Raises:
        UsageError: A label is negative: many sets mark unlabelled images so.
    """
    labels = {label for part in counts.values() for label in part}
    numeric = all(isinstance(label, int) for label in labels)
    if numeric and (lowest := min(labels)) < 0:
        raise UsageError(
            f"{where}: labels must be at least 0 but one is {lowest}",
            "remove images without a label, or number the classes from 0",
        )
    values = tuple(sorted(labels if numeric else {*map(class_name, labels)}))
    renumbered = values != tuple(range(len(values))) if numeric else not labels <= {*values}
    last = len(values) - 1
    order = f"{where}: labels are not 0 to {last}; {listed(values)} become classes 0 to {last}, in this order"
    warnings = [order] if numeric and renumbered else []
    trained = {*map(class_name, counts["train"])}
    if untrained := [name for name in map(class_name, values) if name not in trained]:
        warnings.append(f"{where}: no training images of class{'es' * (len(untrained) > 1)} {listed(untrained)}")
    return Classes(values, tuple(warnings), {"labels": digest(list(values))} if renumbered else {})


def hardly_repeats(labels: Mapping[Any, int]) -> bool:
    """Return whether labels look like identifiers: no class has two images, or fewer than two on average."""
    return max(labels.values()) < 2 or 2 * len(labels) > sum(labels.values())


@dataclass(frozen=True)
class Role:
    """Images or labels: the marks of their column or key in hubs and files."""

    name: str
    feature: str
    """class of the Hugging Face feature"""
    keys: tuple[str, ...]
    """usual keys of items, in lower case"""
    columns: tuple[str, ...]
    """usual names of columns"""
    pattern: str
    """pattern of the Arrow type"""
    content: str

    def fits(self, schema: Any) -> list[str]:
        """Return the columns whose type fits."""
        return [field.name for field in schema if re.fullmatch(self.pattern, str(field.type))]

    def choose(self, schema: Any, name: str, file: Path) -> str:
        """Return the named column, or for `auto` the only one by features of the hub, usual names, or types.

        Raises:
            UsageError: No column fits, or several do.
        """
        if name != "auto":
            self.check(schema, name, file)
            return name
        # pandas writes row numbers as `__index_level_0__`.
        fits = [column for column in self.fits(schema) if not column.startswith("__index_level_")]
        if not fits:
            columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
            raise UsageError(f"{file} has no column of {self.name}s", f"its columns: {columns}")
        features = features_of(schema, file)
        several = [column for column in fits if features.get(column, {}).get("_type") == self.feature] or fits
        usual = [column for column in self.columns if column in several]
        if usual or len(several) == 1:
            return (usual or several)[0]
        raise UsageError(
            f"{file} has {len(several)} columns that can be the {self.name}s: {', '.join(several)}",
            f"choose one with `dataset.{self.name}: NAME`",
        )

    def check(self, schema: Any, name: str, file: Path) -> None:
        """Raise UsageError unless the column exists and its type fits."""
        kinds = {field.name: str(field.type) for field in schema}
        if name not in kinds:
            raise UsageError(f"{file} has no column {name!r}", f"its columns: {', '.join(kinds)}")
        if name not in self.fits(schema):
            raise UsageError(f"column {name!r} of {file} does not hold {self.content}: it is {kinds[name]}")


IMAGE = Role(
    "image",
    "Image",
    ("image", "images", "img", "imgs", "pixel_values", "pixels", "x", "input", "inputs"),
    ("image", "img"),
    r"(large_)?binary(_view)?|struct<(.*, )?bytes: ((large_)?binary(_view)?|null)(, .*)?>",
    "encoded images",
)
LABEL = Role(
    "label",
    "ClassLabel",
    ("label", "labels", "y", "target", "targets", "class", "category", "fine_label", "coarse_label"),
    ("label", "labels"),
    r"bool|u?int\d+|(large_)?string(_view)?|dictionary<values=(u?int\d+|(large_)?string)\b.*",
    "numbers or names of classes",
)


def features_of(schema: Any, file: Path) -> Mapping[str, Any]:
    """Return the Hugging Face features of a schema by column. Raises UsageError for damaged metadata."""
    about = (schema.metadata or {}).get(b"huggingface")
    if about is None:
        return {}
    try:
        features = json.loads(about).get("info", {}).get("features") or {}
        return {column: feature for column, feature in features.items() if isinstance(feature, dict)}
    except Exception as error:  # no JSON, another form, or too deep for the reader
        if is_out_of_memory(error):
            raise
        raise UsageError(f"the `huggingface` metadata of {file} is damaged", "write the file without it") from None
