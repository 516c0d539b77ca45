"""Backends by name, and the machine that steps run on."""

from autosparse.backends import local, ray
from autosparse.backends._base import Backend, Distributed, RunStep, WorkerPool, backends
from autosparse.backends.events import (
    Emit,
    Event,
    Failed,
    Finished,
    Note,
    Observer,
    Progress,
    Raised,
    Started,
    Waiting,
)
from autosparse.backends.machine import (
    EVALUATION_BATCH,
    Machine,
    Placement,
    available_memory,
    environment,
    missing_extras,
    system_load,
    this_machine,
)  # fmt: skip
from autosparse.backends.memory import PeakMemory, memory_of, release_memory, resident_memory

__all__ = [
    "EVALUATION_BATCH",
    "Backend",
    "Distributed",
    "Emit",
    "Event",
    "Failed",
    "Finished",
    "Machine",
    "Note",
    "Observer",
    "PeakMemory",
    "Placement",
    "Progress",
    "Raised",
    "RunStep",
    "Started",
    "Waiting",
    "WorkerPool",
    "available_memory",
    "backends",
    "environment",
    "local",
    "memory_of",
    "missing_extras",
    "ray",
    "release_memory",
    "resident_memory",
    "system_load",
    "this_machine",
]  # fmt: skip
