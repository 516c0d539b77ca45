"""Interface of backends: the registry, the events of a running plan, and the backend of this process."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from autosparse.backends.load import fitting_threads
from autosparse.backends.machine import Placement, keep_memory, this_machine
from autosparse.errors import AutosparseError, MissingDevice
from autosparse.lazy_torch import torch
from autosparse.registry import Registry

Result = TypeVar("Result")
_COMPILING = 32  # torch's own limit of compiling processes


@dataclass(frozen=True)
class Started:
    """Start of a step; `machine` is empty where all steps run on this one."""

    step: str
    machine: str = ""


@dataclass(frozen=True)
class Progress:
    """Progress of a step; `loss` is the mean training loss so far, where the step trains."""

    step: str
    done: int
    total: int
    loss: float | None = None


@dataclass(frozen=True)
class Finished:
    """End of a step by `run`, `resume` or `reuse`; a reused step has metrics only if a step that continues it runs."""

    step: str
    status: str
    seconds: float
    metrics: Mapping[str, float | Sequence[float]]


@dataclass(frozen=True)
class Failed:
    """Failure of a step; `skipped` are the steps that depend on it."""

    step: str
    message: str
    skipped: Collection[str]


@dataclass(frozen=True)
class Waiting:
    """Wait for a step that another process runs."""

    step: str


@dataclass(frozen=True)
class Note:
    """Note for the user, independent of any step's progress."""

    text: str


@dataclass(frozen=True)
class Raised:
    """Error in a worker: it fails the step that it names, or else ends the run."""

    error: AutosparseError


Event: TypeAlias = Started | Progress | Finished | Failed | Waiting | Note

Emit: TypeAlias = Callable[[Event], None]
"""Function that sends an event to the run."""


class Observer(Protocol):
    """Receiver of every event of a running plan, in order."""

    def on_event(self, event: Event) -> None: ...


class Backend(Protocol):
    """Runner of step functions; `prepare` sets up shared state before the first."""

    def prepare(self) -> None: ...
    def run(self, work: Callable[[Placement], Result]) -> Result: ...


RunStep: TypeAlias = Callable[[str, Emit], None]
"""Function that runs a step by name, in any process; it can be pickled."""


class WorkerPool(Protocol):
    """Workers that run several steps at once; `idle` yields a worker for every step that may start now."""

    @property
    def busy(self) -> bool: ...
    @property
    def idle(self) -> Iterator[Any]: ...
    def start(self, worker: Any, name: str) -> None: ...
    def receive(self) -> Iterator[Event | Raised]: ...
    def check(self, name: str) -> None: ...


@runtime_checkable
class Distributed(Protocol):
    """Backend whose steps run on other machines; `memory` maps steps to their peak bytes, where known."""

    def pool(
        self, work: RunStep, memory: Mapping[str, int], *, same_machine: bool
    ) -> AbstractContextManager[WorkerPool]: ...


backends: Registry[Callable[..., Backend]] = Registry("backend", "backends")


class _Local:
    def __init__(
        self, placement: Placement, fitting: Callable[[], AbstractContextManager[int]] = fitting_threads
    ) -> None:
        self._placement, self._fitting = placement, fitting
        self._ready = False

    def prepare(self) -> None:
        """Import torch, which takes seconds and memory, and configure it for this placement."""
        if not self._ready:
            _prepare(self._placement)
            self._ready = True

    def run(self, work: Callable[[Placement], Result]) -> Result:
        self.prepare()
        placement = self._placement
        if not placement.adaptive or placement.threads == 1 or placement.devices > 1 or placement.device != "cpu":
            return work(placement)
        with self._fitting() as threads:
            return work(replace(placement, threads=threads))


@backends.register
def local(placement: Placement) -> _Local:
    """Run in this process, one step at a time."""
    return _Local(placement)


def _prepare(placement: Placement) -> None:
    # Read when numpy and torch's compiler are imported: else they start a thread and a process for each core of the
    # machine, whatever part of it this process may use.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(this_machine().threads))
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(min(_COMPILING, placement.threads)))
    # Deterministic results: a fixed number of threads, and kernels without races.
    torch.set_num_threads(placement.threads)
    keep_memory()
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns of a CUDA that no CPU needs
    if placement.device.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        if not torch.cuda.is_available():
            raise MissingDevice(
                f"`target.device` is {placement.device} but torch {version('torch')} finds no such device",
                "run with `--set target.device=cpu`, or see `autosparse doctor`",
            )
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = False  # float32 means float32
        torch.use_deterministic_algorithms(True, warn_only=True)
    if placement.device == "mps" and not torch.backends.mps.is_available():
        raise MissingDevice("`target.device` is mps but torch finds no such device", "use `--set target.device=cpu`")
