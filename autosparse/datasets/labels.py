"""Labels of sets that name no classes: distinct values become classes 0 to n - 1 and keep their names."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autosparse.errors import UsageError
from autosparse.store import digest
from autosparse.text import listed

Counts = Mapping[str, Mapping[Any, int]]
"""Split -> label -> number of images."""


@dataclass(frozen=True)
class Classes:
    """Classes of a set: the label of each, in order, and sentences about unexpected labels.

    `identity` enters the set's identity. It is empty where labels are 0 to n - 1 or names in Unicode form NFC.
    """

    values: tuple[Any, ...]
    warnings: tuple[str, ...] = ()
    identity: Mapping[str, Any] = field(default_factory=dict)
    are_named: bool = False
    """by the set itself: labels are then numbers of classes, or names"""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(map(class_name, self.values))

    def numbers_of(self, labels: Sequence[Any], where: str) -> list[int]:
        """Return the class number of each label. Raises UsageError for a label of no class."""
        known = {value: number for number, value in enumerate(self.values)}
        if self.are_named:
            known = {key: number for number, name in enumerate(self.names) for key in (name, number)}
        numbers = {}
        for label in set(labels):
            is_number = isinstance(label, int) and (self.are_named or label in known)
            key = label if is_number else class_name(label)
            if key not in known:
                classes = f"{len(self.values)} class{'es' * (len(self.values) != 1)}"
                raise UsageError(f"{where} has label {label!r} but {classes}: {listed(self.names)}")
            numbers[label] = known[key]
        return [numbers[label] for label in labels]


def class_name(label: object) -> str:
    """Return a label as the name of its class, in Unicode form NFC: forms that look alike are one name."""
    return unicodedata.normalize("NFC", str(label))


def classes_of(counts: Counts, where: str) -> Classes:
    """Number the labels of a set: whole numbers by size, names by name.

    Raises:
        UsageError: A label is negative; many sets mark images without a label so.
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
