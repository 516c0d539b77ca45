"""Backends by name, and the machine that steps run on."""

from autosparse.backends import ray
from autosparse.backends._base import (
    Backend,
    Distributed,
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
    WorkerPool,
    backends,
    local,
)  # fmt: skip
from autosparse.backends.machine import (
    EVALUATION_BATCH,
    Machine,
    PeakMemory,
    Placement,
    available_memory,
    environment,
    memory_of,
    missing_extras,
    release_memory,
    resident_memory,
    system_load,
    this_machine,
)  # fmt: skip

__all__ = [
    "EVALUATION_BATCH", "Backend", "Distributed", "Emit", "Event", "Failed", "Finished", "Machine", "Note", "Observer",
    "PeakMemory", "Placement", "Progress", "Raised", "Started", "Waiting", "WorkerPool", "available_memory",
    "backends", "environment", "local", "memory_of", "missing_extras", "ray", "release_memory", "resident_memory",
    "system_load", "this_machine",
]  # fmt: skip
