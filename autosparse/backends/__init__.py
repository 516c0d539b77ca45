"""Where steps run: a registered backend gives a step its place (device, threads) and runs it there."""

from collections.abc import Callable
from typing import Protocol, TypeAlias, TypeVar

from autosparse.backends.machine import (
    Machine,
    Place,
    available_memory,
    environment,
    missing_extras,
    this_machine,
)
from autosparse.registry import Registry

Result = TypeVar("Result")


class Backend(Protocol):
    """Runs a step's work on its place."""

    def run(self, work: Callable[[Place], Result]) -> Result: ...


Open: TypeAlias = Callable[[Place], Backend]
backends: Registry[Open] = Registry("backend", "backends")

from autosparse.backends import local  # noqa: E402

__all__ = [
    "Backend",
    "Machine",
    "Place",
    "available_memory",
    "backends",
    "environment",
    "local",
    "missing_extras",
    "this_machine",
]
