"""Where steps run: a registered backend gives a step its place (device, threads) and runs it there."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from autosparse.backends.machine import (
    Place,
)
from autosparse.registry import Registry

Result = TypeVar("Result")


class Backend(Protocol):
    """Runs a step's work on its place; `prepare` does what is done once, before the first."""

    def prepare(self) -> None: ...
    def run(self, work: Callable[[Place], Result]) -> Result: ...


Tell: TypeAlias = Callable[..., None]
"""Is told what happens: `started`, `progress`, `waiting`, `finished`, `note`, each with what belongs to it."""

Work: TypeAlias = Callable[[str, Tell], None]
"""Makes a step by name, in any process: what it consists of can be pickled."""


class Crew(Protocol):
    """What makes several steps at once. `idle` are those that may be given one."""

    @property
    def busy(self) -> bool: ...
    @property
    def idle(self) -> Iterator[Any]: ...
    def make(self, worker: Any, name: str) -> None: ...
    def hear(self) -> Iterator[tuple[Any, ...]]: ...
    def check(self, name: str) -> None: ...


@runtime_checkable
class Distributed(Protocol):
    """A backend whose steps run elsewhere. `memory` is what steps take, in bytes, where that is known."""

    def crew(self, work: Work, memory: Mapping[str, int], *, same_machine: bool) -> AbstractContextManager[Crew]: ...


Open: TypeAlias = Callable[..., Backend]
backends: Registry[Open] = Registry("backend", "backends")
