"""How much memory there is, and how much a step took."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from autosparse.backends.machine import read_system, this_machine
from autosparse.lazy_torch import torch

_UNLIMITED = 2**60
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # mallopt(3)


def memory_of(device: str) -> int:
    """Bytes of memory that a target has: the device's own, or the machine's as far as this process may use it."""
    memories, index = this_machine().cuda_memory, int(device.partition(":")[2] or 0)
    return memories[index] if device.startswith("cuda") and index < len(memories) else _host_memory()


class PeakMemory:
    """The most memory that was in use since it was made: of the process, or on a GPU what torch took of it."""

    def __init__(self, device: str) -> None:
        self._cuda = device if device.startswith("cuda") else ""
        self._resettable = not self._cuda and _reset_peak()
        self._before = _highest()
        if self._cuda:
            torch.cuda.reset_peak_memory_stats(self._cuda)

    @property
    def bytes(self) -> int | None:
        """None where the system tells only the highest of all times, and it did not rise."""
        if self._cuda:
            return int(torch.cuda.max_memory_reserved(self._cuda))
        now = _highest()
        return now if self._resettable or now > self._before else None


def release_memory() -> None:
    """Give memory that was freed back to the system: C libraries keep it, and the next step's peak would show it."""
    with suppress(OSError, AttributeError, TypeError):  # TypeError: Windows has no library of that name
        ctypes.CDLL(None).malloc_trim(0)  # glibc


def keep_memory() -> None:
    """Have the C library keep what is freed for what comes next, up to 2 GiB.

    Tensors of megabytes are otherwise taken from the system anew, page by page, in every step of a training.
    """
    with suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def resident_memory(*, children: bool = False) -> int:
    """Bytes that this process, and with `children` those that it began, hold now.

    Where the system does not tell, the most that this one ever held.
    """
    processes = ["self"]
    for task in Path("/proc/self/task").glob("*/children") if children else ():
        processes += read_system(str(task)).split()
    statuses = [read_system(f"/proc/{process}/status") for process in processes]
    sizes = [int(kilobytes) for text in statuses for kilobytes in re.findall(r"^VmRSS:\s*(\d+) kB", text, re.MULTILINE)]
    return 1024 * sum(sizes) if sizes else _highest()


def _highest() -> int:
    if match := re.search(r"^VmHWM:\s*(\d+) kB", read_system("/proc/self/status"), re.MULTILINE):
        return 1024 * int(match[1])
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc(5): resets the peak resident set size
    except OSError:
        return False
    return True


@cache
def _host_memory() -> int:
    total = _UNLIMITED
    if match := re.search(r"^MemTotal:\s*(\d+) kB", read_system("/proc/meminfo"), re.MULTILINE):
        total = 1024 * int(match[1])
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    # A container's limit, of either version of control groups.
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit: Any = read_system(path).strip()
        if limit.isdecimal():
            total = min(total, int(limit))
    return total
