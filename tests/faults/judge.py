"""Judge of a trial: a command ends with 0 and the same results, or with one line and a documented exit code."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from tests.conftest import Ended

CODES = (1, 2, 4, 5)
_MEASURED = {
    "seconds", "idle_seconds", "finished", "latency_ms", "dense_latency_ms", "speeds", "path", "cost", "mask_costs",
    "steps", "environments", "timeline", "run", "warnings", "without_gain",
}  # fmt: skip
"""Fields of a report that differ from run to run, or name a folder."""
_LONGEST = 1000  # characters of a line


@dataclass(frozen=True)
class Verdict:
    """End of a trial: `unharmed`, `one line` or `failed`, with the reason and the error that the command printed."""

    word: str
    problem: str = ""
    printed: str = ""

    @classmethod
    def of(cls, ended: Ended, *problems: str) -> Verdict:
        """Return the verdict on a command with these problems, of which empty ones are none."""
        problem = next(filter(None, problems), "")
        word = "failed" if problem else "one line" if ended.code else "unharmed"
        lines = [line for line in ended.err.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("error: ")] or lines[-1:]
        return cls(word, problem, errors[0][:300] if ended.code and errors else "")


def problem_of(ended: Ended, codes: Collection[int] = CODES) -> str:
    """Return the fault in the way that a command ended, or an empty text."""
    if ended.code == -14:
        return "hangs"
    if ended.code < 0:
        return f"killed by signal {-ended.code}"
    if "Traceback (most recent call last)" in ended.err + ended.out:
        return f"traceback, exit code {ended.code}: {ended.err.strip().splitlines()[-1][:160]}"
    if ended.code not in (0, *codes):
        return f"exit code {ended.code}: {ended.err.strip()[:160]}"
    if ended.code == 0:
        return ""
    errors = [line for line in ended.err.splitlines() if line.startswith(("error: ", "damaged"))]
    if not errors and "are sound" not in ended.out:
        return f"exit code {ended.code} without an error: {ended.err.strip()[:160]}"
    if odd := [line for line in errors if re.search(r"\bNone\b|[\x00-\x08\x0b-\x1f\x7f]", line)]:
        return f"unreadable error: {odd[0][:160]!r}"
    if long := [line for line in ended.err.splitlines() if len(line) > _LONGEST]:
        return f"a line of {len(long[0]):,} characters: {long[0][:80]}"
    return ""


def stable(value: Any) -> Any:
    """Return a JSON value without measured times and folders."""
    if isinstance(value, Mapping):
        return {key: stable(inner) for key, inner in value.items() if key not in _MEASURED}
    return [stable(inner) for inner in value] if isinstance(value, list) else value


def planned(document: Any) -> Any:
    """Return the budgets and keys of `plan --json`."""
    return [document["budgets"], {step["name"]: step["key"] for step in document["steps"]}]


def parsed(text: str) -> Any:
    """Return the JSON document that a command printed; None if it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def difference(expected: Any, actual: Any, path: str = "") -> str:
    """Return the first difference between two JSON values, or an empty text."""
    if type(expected) is type(actual) and isinstance(expected, dict | list):
        old, new = (dict(enumerate(one)) if isinstance(one, list) else one for one in (expected, actual))
        keys = dict.fromkeys([*old, *new])
        return next(filter(None, (difference(old.get(key), new.get(key), f"{path}.{key}") for key in keys)), "")
    same = type(expected) is type(actual) and expected == actual
    return "" if same else f"{path}: {str(actual)[:60]!r} instead of {str(expected)[:60]!r}"
