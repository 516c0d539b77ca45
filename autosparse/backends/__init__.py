"""Where steps run: a registered backend gives a step its place (device, threads) and runs it there."""

from collections.abc import Callable
from typing import Protocol, TypeAlias, TypeVar

from autosparse.backends.machine import (
    EVALUATION_BATCH,
    Machine,
    Place,
    available_memory,
    environment,
    missing_extras,
    system_load,
    this_machine,
)
from autosparse.backends.memory import PeakMemory, memory_of, release_memory, resident_memory
from autosparse.registry import Registry

Result = TypeVar("Result")


class Backend(Protocol):
    """Runs a step's work on its place; `prepare` does what is done once, before the first."""

    def prepare(self) -> None: ...
    def run(self, work: Callable[[Place], Result]) -> Result: ...


Open: TypeAlias = Callable[[Place], Backend]
backends: Registry[Open] = Registry("backend", "backends")

from autosparse.backends import local  # noqa: E402

__all__ = [
    "EVALUATION_BATCH",
    "Backend",
    "Machine",
    "PeakMemory",
    "Place",
    "available_memory",
    "backends",
    "environment",
    "local",
    "memory_of",
    "missing_extras",
    "release_memory",
    "resident_memory",
    "system_load",
    "this_machine",
]
