"""The interface of backends: their registry, and the events of a running plan.

Events are frozen values that name steps, so that they travel between processes and machines.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from autosparse.backends.machine import Placement
from autosparse.errors import AutosparseError
from autosparse.registry import Registry

Result = TypeVar("Result")


@dataclass(frozen=True)
class Started:
    """A step starts; `machine` is empty where all steps run on this one."""

    step: str
    machine: str = ""


@dataclass(frozen=True)
class Progress:
    """A part of a step is done; `loss` is the mean training loss so far, where the step trains."""

    step: str
    done: int
    total: int
    loss: float | None = None


@dataclass(frozen=True)
class Finished:
    """The artifact of a step is in the store: `status` is `run`, `resume` or `reuse`.

    A reused step has metrics only if a step that continues it runs.
    """

    step: str
    status: str
    seconds: float
    metrics: Mapping[str, float | Sequence[float]]


@dataclass(frozen=True)
class Failed:
    """A step failed; `skipped` are the steps that depend on it."""

    step: str
    message: str
    skipped: Collection[str]


@dataclass(frozen=True)
class Waiting:
    """Another process runs a step, and this one waits for it."""

    step: str


@dataclass(frozen=True)
class Note:
    """A sentence for the user that concerns no step's progress."""

    text: str


@dataclass(frozen=True)
class Raised:
    """An error in a worker: it fails one step if it names one, and ends the run otherwise."""

    error: AutosparseError


Event: TypeAlias = Started | Progress | Finished | Failed | Waiting | Note

Emit: TypeAlias = Callable[[Event], None]
"""Sends an event to the run."""


class Observer(Protocol):
    """Receives every event of a running plan, in order."""

    def on_event(self, event: Event) -> None: ...


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


backends: Registry[Callable[..., Backend]] = Registry("backend", "backends")
