"""Columns of a Parquet file: which one holds the images and which one the labels."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autosparse.errors import UsageError

_BYTES = r"(large_)?binary(_view)?|struct<(.*, )?bytes: ((large_)?binary(_view)?|null)(, .*)?>"
_LABELS = r"bool|u?int\d+|(large_)?string(_view)?|dictionary<values=(u?int\d+|(large_)?string)\b.*"


@dataclass(frozen=True)
class Role:
    """A column to choose: its option, the type it has in Arrow and on the hub, its usual names, and its content."""

    name: str
    pattern: str
    feature: str
    usual: tuple[str, ...]
    content: str

    def fits(self, schema: Any) -> list[str]:
        """Return the columns whose type fits."""
        return [field.name for field in schema if re.fullmatch(self.pattern, str(field.type))]


IMAGE = Role("image", _BYTES, "Image", ("image", "img"), "encoded images")
LABEL = Role("label", _LABELS, "ClassLabel", ("label", "labels"), "numbers or names of classes")


def features_of(schema: Any, file: Path) -> Mapping[str, Any]:
    """Return the Hugging Face features of a schema by column; empty without such metadata.

    Raises:
        UsageError: The metadata is damaged.
    """
    about = (schema.metadata or {}).get(b"huggingface")
    if about is None:
        return {}
    try:
        features = json.loads(about).get("info", {}).get("features") or {}
        return {column: feature for column, feature in features.items() if isinstance(feature, dict)}
    except (ValueError, AttributeError):
        raise UsageError(f"the `huggingface` metadata of {file} is damaged", "write the file without it") from None


def choose_column(schema: Any, name: str, role: Role, file: Path) -> str:
    """Return the column of a role: the one that is named, or for `auto` the only one that can be meant.

    Features of the Hugging Face hub decide first, then usual names, then types.

    Raises:
        UsageError: No column fits, or several do.
    """
    fits = role.fits(schema)
    if name != "auto":
        check_column(schema, name, role, file)
        return name
    fits = [column for column in fits if not column.startswith("__index_level_")]  # pandas writes row numbers so
    if not fits:
        columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise UsageError(f"{file} has no column of {role.name}s", f"its columns: {columns}")
    features = features_of(schema, file)
    marked = [column for column in fits if features.get(column, {}).get("_type") == role.feature]
    usual = [column for column in role.usual if column in (marked or fits)]
    if len(marked or fits) == 1 or usual:
        return usual[0] if usual else (marked or fits)[0]
    several = marked or fits
    raise UsageError(
        f"{file} has {len(several)} columns that can be the {role.name}s: {', '.join(several)}",
        f"choose one with `dataset.{role.name}: NAME`",
    )


def check_column(schema: Any, name: str, role: Role, file: Path) -> None:
    """Raise UsageError unless the column exists and its type fits."""
    kinds = {field.name: str(field.type) for field in schema}
    if name not in kinds:
        raise UsageError(f"{file} has no column {name!r}", f"its columns: {', '.join(kinds)}")
    if name not in role.fits(schema):
        raise UsageError(f"column {name!r} of {file} does not hold {role.content}: it is {kinds[name]}")
