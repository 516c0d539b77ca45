"""Amounts as people write them: `8GiB`, `600MB`, `90s`, `1h30min`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from pydantic_core import PydanticCustomError

from autosparse.text import quoted

_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SECONDS = {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400}
_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"


def read_bytes(value: Any) -> int:
    """A number of bytes, at least one. Raises PydanticCustomError with a hint."""
    text = value if isinstance(value, str) else ""
    found = re.fullmatch(rf"{_NUMBER} ?([A-Za-z]+)", text.strip())
    if not found or found[2].upper() not in _BYTES or not float(found[1]):
        context = {"got": quoted(value), "hint": _unit(value, "MiB", "8GiB")}
        raise PydanticCustomError("bytes", "must be auto, or an amount of memory with its unit, but is {got}", context)
    return max(1, round(float(found[1]) * _BYTES[found[2].upper()]))


def read_seconds(value: Any) -> float:
    """A duration in seconds, above 0. Raises PydanticCustomError with a hint."""
    text = value.strip() if isinstance(value, str) else ""
    parts = re.findall(rf"{_NUMBER} ?([a-z]+)", text)
    seconds = sum(float(number) * _SECONDS.get(unit, math.nan) for number, unit in parts)
    if seconds == 0 and parts:
        raise PydanticCustomError("time", "must be above 0 but is {got}", {"got": quoted(value)})
    if not re.fullmatch(rf"(?:{_NUMBER} ?[a-z]+ ?)+", text) or not 0 < seconds < math.inf:
        context = {"got": quoted(value), "hint": _unit(value, "s", "2h")}
        raise PydanticCustomError("time", "must be unlimited, or a duration with its unit, but is {got}", context)
    return seconds


def checked(read: Callable[[Any], float], word: str) -> Callable[[Any], Any]:
    """A validator of texts that are `word` or what `read` takes."""

    def check(value: Any) -> Any:
        if value != word:
            read(value)
        return value

    return check


def _unit(value: Any, unit: str, example: str) -> str:
    # What was meant by a number without a unit.
    number = not isinstance(value, bool) and re.fullmatch(_NUMBER, str(value))
    return f"did you mean `{value}{unit}`?" if number else f"such as `{example}`"


def binary_size(value: float) -> str:
    """A number of bytes in binary units, with two digits or more: as memory is sold."""
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
