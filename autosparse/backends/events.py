"""Events of a running plan: frozen values that name steps, so that they travel between processes and machines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from autosparse.errors import AutosparseError


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
