"""Arguments as Python's own values: numbers may come from numpy or torch, paths as objects."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


def plain_values(value: Any) -> Any:
    """Return a value in which numbers of numpy and torch are Python's, arrays are lists and paths are texts."""
    if isinstance(value, Mapping):
        return {plain_values(key): plain_values(inner) for key, inner in value.items()}
    if type(value) in (tuple, list):
        return type(value)(map(plain_values, value))
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if type(value).__module__.partition(".")[0] in ("numpy", "torch") and hasattr(value, "tolist"):
        return value.tolist()  # numpy's numbers and arrays, and tensors
    return value
