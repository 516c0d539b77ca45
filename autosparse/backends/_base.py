"""The registry of backends: each runs steps on a device, with a number of threads, here or on other machines."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from autosparse.backends.events import Emit, Event, Raised
from autosparse.backends.machine import Placement
from autosparse.registry import Registry

Result = TypeVar("Result")


class Backend(Protocol):
    """Runs functions of steps; `prepare` sets up what they share before the first."""

    def prepare(self) -> None: ...
    def run(self, work: Callable[[Placement], Result]) -> Result: ...


RunStep: TypeAlias = Callable[[str, Emit], None]
"""Runs a step by name, in any process: it can be pickled."""


class WorkerPool(Protocol):
    """Workers that run several steps at once. `idle` yields a worker for every step that may start now."""

    @property
    def busy(self) -> bool: ...
    @property
    def idle(self) -> Iterator[Any]: ...
    def start(self, worker: Any, name: str) -> None: ...
    def receive(self) -> Iterator[Event | Raised]: ...
    def check(self, name: str) -> None: ...


@runtime_checkable
class Distributed(Protocol):
    """A backend whose steps run on other machines. `memory` maps steps to their peak bytes, where these are known."""

    def pool(
        self, work: RunStep, memory: Mapping[str, int], *, same_machine: bool
    ) -> AbstractContextManager[WorkerPool]: ...


Open: TypeAlias = Callable[..., Backend]
backends: Registry[Open] = Registry("backend", "backends")
