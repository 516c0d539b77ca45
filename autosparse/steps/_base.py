"""The kinds of step: glue that loads inputs, calls the core and saves outputs.

An operation is a registered function `(work, **options)`; its options are JSON values, all of them keyed.
Raise its `version` when the same options and inputs give another output. Facts of a registration:

* `spec_paths`: option -> path of the spec that it comes from, where that is not its name; `role.*` -> the path that
  sets the number of inputs of a role; an empty path for an option that the inputs imply.
* `tells`: the number in `result.json` that a running plan shows, of which the highest is `best` or the last counts.
* `by_team`: several processes may do it together, each with the same inputs and options; the first one's output counts.
* `chained`: the plural of steps of which each continues the one before, such as `rounds`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from autosparse.registry import Registry
from autosparse.store import Artifact

Operation: TypeAlias = Callable[..., None]
operations: Registry[Operation] = Registry("operation", "operations")


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
