"""Where a plan runs, and how much it may take there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Le
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from autosparse.backends import Distributed, Place, backends
from autosparse.spec.amounts import checked, read_bytes, read_seconds
from autosparse.spec.choices import Choice, Section, about, choice_of
from autosparse.text import quoted

if TYPE_CHECKING:
    BackendChoice = Choice
else:
    BackendChoice = choice_of(backends)


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", value):
        raise PydanticCustomError(
            "device", "must be auto, cpu, cuda, cuda:N or mps but is {got}", {"got": quoted(value)}
        )
    return value


class Target(Section):
    """Where and how big; never part of an artifact's identity."""

    device: Annotated[str, AfterValidator(_device), about("`auto`, `cpu`, `cuda`, `cuda:1` or `mps`")] = "auto"
    devices: Annotated[
        Annotated[int, Ge(1), Le(64)],
        about(
            "how many GPUs train one network together (data-parallel), each on its share of every batch; on a CPU as "
            "many processes, which share `threads`. Where there are fewer it is one"
        ),
    ] = 1
    threads: Annotated[
        Annotated[int, Ge(1), Le(1024)] | Literal["auto"],
        about("threads on the CPU; auto is every usable core, shared among `workers` where their number is written"),
    ] = "auto"
    workers: Annotated[
        Annotated[int, Ge(1), Le(256)] | Literal["auto"],
        about(
            "how many steps run at once, each in a process of its own with so many `threads`; auto is as many as there "
            "are cores and memory for, where that saves time. What they compute does not depend on it"
        ),
    ] = "auto"
    memory: Annotated[
        Annotated[str, BeforeValidator(checked(read_bytes, "auto"))],
        about("the most that steps may take at one time, such as `8GiB`; auto is the memory of the device"),
    ] = "auto"
    time: Annotated[
        Annotated[str, BeforeValidator(checked(read_seconds, "unlimited"))],
        about("how long a run may take, such as `2h`; what the spec leaves `auto` is lowered to keep to it"),
    ] = "unlimited"
    backend: Annotated[BackendChoice, about("what runs the steps")] = Field(default="local", validate_default=True)

    @property
    def elsewhere(self) -> bool:
        """Whether the backend runs steps on other machines."""
        return isinstance(self.backend.entry.function(Place("cpu", 1), **self.backend.options()), Distributed)

    @property
    def memory_bytes(self) -> int | None:
        """The limit of memory that was written, or None."""
        return None if self.memory == "auto" else read_bytes(self.memory)

    @property
    def seconds(self) -> float | None:
        """The limit of time that was written, or None."""
        return None if self.time == "unlimited" else read_seconds(self.time)
