"""Load of the machine by other processes, and the number of threads that suits it."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from autosparse.backends.cgroups import ROOT, read_system
from autosparse.backends.limits import usable_cores
from autosparse.lazy_torch import torch

_SAMPLES, _APART = 5, 0.002  # a process that wakes for a moment is in few of them; seconds


def system_load() -> float:
    """Return the mean number of processes that wanted a core over the last minute; 0 where the system lacks it."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows
        return 0.0


def runnable_others(root: Path = ROOT) -> int:
    """Return the number of threads of other processes that run or wait for a core now; 0 on systems but Linux."""
    running = read_system(root / "proc/loadavg").split()[3:4]
    number = running[0].partition("/")[0] if running else ""
    states = (read_system(path).rpartition(")")[2].split()[:1] for path in (root / "proc/self/task").glob("*/stat"))
    return max(0, int(number) - sum(state == ["R"] for state in states)) if number.isdecimal() else 0


def idle_cores(others: Callable[[], int] = runnable_others, *, cores: int | None = None) -> int:
    """Return the cores that no other process wants, in the median of a few samples within 10 ms; 0 on a busy machine.

    The count is of the whole machine, also in a container with a quota of processor time: as long as a core is idle,
    threads of this process can run there. With an affinity to some cores it says nothing of these: all count as idle.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    if cores is None and 0 < bound < (os.cpu_count() or 1):
        return bound
    samples = []
    for index in range(_SAMPLES):
        time.sleep(_APART if index else 0)
        samples.append(others())
    return max(0, (cores or os.cpu_count() or 1) - round(statistics.median(samples)))


def is_busy(others: Callable[[], int] = runnable_others, *, cores: int | None = None) -> bool:
    """Return whether other processes want every core of the machine now."""
    return not idle_cores(others, cores=cores)


@contextmanager
def fitting_threads(*, cores: int | None = None, idle: Callable[[], int] = idle_cores) -> Iterator[int]:
    """Run torch with as many threads as cores are usable and idle, at least one; then restore the caller's number.

    Threads wait for each other after every operation. If a core is shared, all wait for the slowest one: on two cores
    next to one other process, one thread trains twice as fast as two. Yields the number of threads.
    """
    before = torch.get_num_threads()
    most = min(before, usable_cores().value if cores is None else cores)
    now = max(1, min(most, idle())) if most > 1 else most
    if now == before:
        yield now
        return
    torch.set_num_threads(now)
    try:
        yield now
    finally:
        torch.set_num_threads(before)
