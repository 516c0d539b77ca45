"""What a step measured, for people to follow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from autosparse.store import Artifact

Metrics: TypeAlias = Mapping[str, float | Sequence[float]]
"""by name a number, or one for every epoch"""


def metrics_of(artifact: Artifact) -> dict[str, float | list[float]]:
    """The numbers in an artifact's `result.json`; none where it has no such file."""
    if "result.json" not in artifact.files:
        return {}
    found = artifact.json("result")
    return {
        name: value
        for name, value in found.items()
        if _is_number(value) or (isinstance(value, list) and value and all(map(_is_number, value)))
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
