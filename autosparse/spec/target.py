"""The section `target`: device, backend and limits of a plan; amounts such as `8GiB` and `1h30min`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Le
from pydantic import AfterValidator, BeforeValidator, Field

from autosparse.backends import Distributed, Placement, backends
from autosparse.borders import expand
from autosparse.errors import UsageError
from autosparse.spec.choices import Choice, about, choice_of
from autosparse.spec.diagnostics import refusal
from autosparse.spec.section import Section
from autosparse.text import quoted

_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SECONDS = {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400}
_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"


def read_bytes(value: Any) -> int:
    """Parse a number of bytes, at least one. Raises PydanticCustomError with a hint."""
    text = value if isinstance(value, str) else ""
    match = re.fullmatch(rf"{_NUMBER} ?([A-Za-z]+)", text.strip())
    if not match or match[2].upper() not in _BYTES or not float(match[1]):
        raise refusal(
            f"must be auto, or an amount of memory with its unit, but is {quoted(value)}", _unit(value, "MiB", "8GiB")
        )
    return max(1, round(float(match[1]) * _BYTES[match[2].upper()]))


def read_seconds(value: Any) -> float:
    """Parse a duration in seconds, above 0. Raises PydanticCustomError with a hint."""
    text = value.strip() if isinstance(value, str) else ""
    parts = re.findall(rf"{_NUMBER} ?([a-z]+)", text)
    seconds = sum(float(number) * _SECONDS.get(unit, math.nan) for number, unit in parts)
    if seconds == 0 and parts:
        raise refusal(f"must be above 0 but is {quoted(value)}")
    if not re.fullmatch(rf"(?:{_NUMBER} ?[a-z]+ ?)+", text) or not 0 < seconds < math.inf:
        raise refusal(
            f"must be unlimited, or a duration with its unit, but is {quoted(value)}", _unit(value, "s", "2h")
        )
    return seconds


def checked(read: Callable[[Any], float], word: str) -> Callable[[Any], Any]:
    """Return a validator of texts that are `word` or that `read` parses."""

    def check(value: Any) -> Any:
        if value != word:
            read(value)
        return value

    return check


def _unit(value: Any, unit: str, example: str) -> str:
    # The hint for a number without a unit.
    number = not isinstance(value, bool) and re.fullmatch(_NUMBER, str(value))
    return f"did you mean `{value}{unit}`?" if number else f"such as `{example}`"


def binary_size(value: float) -> str:
    """Format a number of bytes in binary units with at least two digits, as for memory sizes."""
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


if TYPE_CHECKING:
    BackendChoice = Choice
else:
    BackendChoice = choice_of(backends)


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", value):
        raise refusal(f"must be auto, cpu, cuda, cuda:N or mps but is {quoted(value)}")
    return value


class Target(Section):
    """The machine and the limits of a plan; not part of any cache key."""

    device: Annotated[str, AfterValidator(_device), about("device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`")] = "auto"
    devices: Annotated[
        Annotated[int, Ge(1), Le(64)],
        about(
            "number of GPUs for data-parallel training of one network; on a CPU, number of processes, which share "
            "`threads`. One if the machine has fewer devices"
        ),
    ] = 1
    threads: Annotated[
        Annotated[int, Ge(1), Le(1024)] | Literal["auto"],
        about(
            "number of CPU threads of a step; auto: the usable cores divided by `workers`, or the number that finishes "
            "the plan first if `workers` is auto too; a step uses fewer while other processes want the cores"
        ),
    ] = "auto"
    workers: Annotated[
        Annotated[int, Ge(1), Le(256)] | Literal["auto"],
        about(
            "number of parallel worker processes, one step each, with `threads` threads; auto: limited by cores and "
            "memory, where parallelism saves time. Results are identical at any number"
        ),
    ] = "auto"
    memory: Annotated[
        Annotated[str, BeforeValidator(checked(read_bytes, "auto"))],
        about("memory limit of all running steps, such as `8GiB`; auto: the memory of the device"),
    ] = "auto"
    time: Annotated[
        Annotated[str, BeforeValidator(checked(read_seconds, "unlimited"))],
        about("time limit of a run, such as `2h`; options at `auto` are lowered to fit"),
    ] = "unlimited"
    backend: Annotated[BackendChoice, about("execution backend")] = Field(default="local", validate_default=True)

    @property
    def elsewhere(self) -> bool:
        """True for a backend that runs steps on other machines."""
        return isinstance(self.backend.entry.function(Placement("cpu", 1), **self.backend.options()), Distributed)

    @property
    def memory_bytes(self) -> int | None:
        """The memory limit in bytes, or None for `auto`."""
        return None if self.memory == "auto" else read_bytes(self.memory)

    @property
    def seconds(self) -> float | None:
        """The time limit in seconds, or None for unlimited."""
        return None if self.time == "unlimited" else read_seconds(self.time)


def no_boolean(value: Any) -> Any:
    """Refuse true and false where 1 is due."""
    if isinstance(value, bool):  # bool is an int in Python
        raise refusal(f"must be 1 but is {str(value).lower()}")
    return value


def store_location(value: str | None) -> str | None:
    """Return a store's URL or absolute path, or None. Refuses other texts."""
    try:
        if value is None or re.match(r"[a-z][a-z0-9+.-]*://.", value) or expand(value).is_absolute():
            return value
    except UsageError as error:
        raise refusal(f"names a path, but {error.message}") from None
    raise refusal(f"must be a URL such as s3://bucket/prefix or an absolute path but is {quoted(value)}")
