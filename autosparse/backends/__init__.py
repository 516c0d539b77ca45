"""Backends by name, and the machine that steps run on."""

from autosparse.backends import local, ray
from autosparse.backends._base import Backend, Crew, Distributed, Tell, Work, backends
from autosparse.backends.machine import (
    EVALUATION_BATCH,
    Machine,
    Place,
    available_memory,
    environment,
    missing_extras,
    system_load,
    this_machine,
)  # fmt: skip
from autosparse.backends.memory import PeakMemory, memory_of, release_memory, resident_memory

__all__ = [
    "EVALUATION_BATCH", "Backend", "Crew", "Distributed", "Machine", "PeakMemory", "Place", "Tell", "Work",
    "available_memory", "backends", "environment", "local", "memory_of", "missing_extras", "ray", "release_memory",
    "resident_memory", "system_load", "this_machine",
]  # fmt: skip
