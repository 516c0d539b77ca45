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
from autosparse.backends.limits import (
    Limit,
    Limits,
    available_memory,
    free_processes,
    most_processes,
    this_process,
    usable_cores,
)  # fmt: skip
from autosparse.backends.load import fitting_threads, idle_cores, is_busy, runnable_others, system_load
from autosparse.backends.machine import (
    EVALUATION_BATCH,
    Machine,
    PeakMemory,
    Placement,
    environment,
    memory_of,
    missing_extras,
    private_memory,
    release_memory,
    resident_memory,
    this_machine,
    version_of,
)  # fmt: skip

__all__ = [
    "EVALUATION_BATCH", "Backend", "Distributed", "Emit", "Event", "Failed", "Finished", "Limit", "Limits", "Machine",
    "Note", "Observer", "PeakMemory", "Placement", "Progress", "Raised", "Started", "Waiting", "WorkerPool",
    "available_memory", "backends", "environment", "fitting_threads", "free_processes", "idle_cores", "is_busy",
    "local", "memory_of", "missing_extras", "most_processes", "private_memory", "ray", "release_memory",
    "resident_memory", "runnable_others", "system_load", "this_machine", "this_process", "usable_cores",
    "version_of",
]  # fmt: skip
