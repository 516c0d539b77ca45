"""Resources that this process may use: cores, threads, memory and processes, each with the source of its limit.

Limits come from the machine, the processor affinity, control groups, `ulimit` and OpenMP's variables. The smallest
counts. macOS and Windows have no control groups: there the machine and OpenMP's variables remain.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from autosparse.backends.cgroups import ROOT, Group, groups_of, limited, read_system, system_bytes

_UNKNOWN, _MODEST = 2**60, 2**33  # bytes of a machine that does not report its memory: in all, and free
_PERIOD = 100_000  # the kernel's default period of a quota, in microseconds


@dataclass(frozen=True)
class Limit:
    """The amount of a resource that this process may use, and the source of the limit in words."""

    value: int
    source: str


@dataclass(frozen=True)
class Limits:
    """The limits of this process; `processes`, which counts threads too, is None without a limit."""

    cores: Limit
    threads: Limit
    """default number of threads: the cores, unless OpenMP's variables lower it"""
    memory: Limit
    processes: Limit | None


def this_process() -> Limits:
    """Return the limits of this process."""
    cores = usable_cores()
    return Limits(cores, default_threads(cores), usable_memory(), most_processes())


@cache
def usable_cores(root: Path = ROOT, *, affinity: int | None = None, machine: int | None = None) -> Limit:
    """Return the cores that this process may use.

    A quota of processor time counts as its whole cores, and as one core below that: with 1.5 cores, two threads that
    wait for each other take turns. `affinity` and `machine` replace the numbers of the operating system.
    """
    machine = machine or os.cpu_count() or 1
    if affinity is None:
        affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine
    limits = [Limit(machine, "the machine"), Limit(affinity, "affinity")]
    for group in groups_of("cpu", root):
        file, quota, period = _quota(group)
        if quota is not None and period:
            limits.append(Limit(max(1, quota // period), group.source(file)))
    return _smallest(limits)


def default_threads(cores: Limit, variables: Mapping[str, str] = os.environ) -> Limit:
    """Return the number of threads of a process by default: the cores, or fewer if OpenMP's variables set fewer."""
    limits = [cores]
    for name in ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT"):
        first = variables.get(name, "").partition(",")[0].strip()  # one number for each level of nesting
        if first.isascii() and first.isdecimal() and (number := int(first)):
            limits.append(Limit(number, name))
    return _smallest(limits)


def usable_memory(root: Path = ROOT) -> Limit:
    """Return the bytes of memory that this process may use if it is alone in its control groups."""
    limits, groups = [Limit(_total(root) or _UNKNOWN, "the machine")], groups_of("memory", root)
    for group in groups:
        # Above `memory.high` the kernel stops a process again and again to reclaim memory that it cannot reclaim.
        for file in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            limits += [Limit(number, group.source(file)) for number in [group.number(file)] if number is not None]
    for group in groups:
        above = group.statistic("memory.stat", "hierarchical_memory_limit")  # of groups that a container does not see
        limits += [] if above is None else [Limit(above, f"{group.source('memory.limit_in_bytes')} or above")]
    return _smallest(limits + [Limit(number, source) for number, source, _ in _resource_limits(root)])


def available_memory(root: Path = ROOT) -> int:
    """Return the bytes that a process may allocate now: without swapping, and within every limit."""
    free = [system_bytes(root / "proc/meminfo", "MemAvailable") or _total(root) or _MODEST]
    for group in groups_of("memory", root):
        limit, used = _memory_of(group)
        if limit is not None:
            free.append(limit - used + _reclaimable(group, "inactive_file"))
    free += [number - system_bytes(root / "proc/self/status", used) for number, _, used in _resource_limits(root)]
    return max(0, min(free))


def memory_without_others(root: Path = ROOT) -> int:
    """Return the bytes of memory that the limits leave to this process, whatever it holds itself.

    The memory of other processes in a limited control group is subtracted, without the file cache: the kernel kills a
    process of the group that exceeds its limit. A machine swaps first and its processes come and go: its limit is all
    of its memory, so that a plan does not change with them.
    """
    anonymous = system_bytes(root / "proc/self/status", "RssAnon")
    left = [usable_memory(root).value]
    for group in groups_of("memory", root):
        limit, used = _memory_of(group)
        if limit is not None:
            held = used - _reclaimable(group, "inactive_file") - _reclaimable(group, "active_file")
            left.append(limit - max(0, held - anonymous))
    return max(0, min(left))


def most_processes(root: Path = ROOT) -> Limit | None:
    """Return the limit of processes and threads; None where the system reports none."""
    limits = [limit for limit, _ in _processes(root)]
    return _smallest(limits) if limits else None


def free_processes(root: Path = ROOT) -> int | None:
    """Return the number of processes and threads that may still start; None where the system reports no limit."""
    free = [limit.value - count for limit, count in _processes(root)]
    return max(0, min(free)) if free else None


def _smallest(limits: list[Limit]) -> Limit:
    return min(limits, key=lambda limit: limit.value)  # the first of equal ones: the machine before a group


def _quota(group: Group) -> tuple[str, int | None, int]:
    # File, microseconds of processor time, and the period that they are for.
    if group.version == 1:
        period = group.number("cpu.cfs_period_us")
        return "cpu.cfs_quota_us", group.number("cpu.cfs_quota_us"), _PERIOD if period is None else period
    quota, period = [*map(limited, group.words("cpu.max")), None, None][:2]
    return "cpu.max", quota, _PERIOD if period is None else period


def _memory_of(group: Group) -> tuple[int | None, int]:
    # Limit, that of hidden groups above included, and usage in bytes.
    numbers = [group.number(file) for file in ("memory.max", "memory.high", "memory.limit_in_bytes")]
    numbers.append(group.statistic("memory.stat", "hierarchical_memory_limit"))
    limits = [number for number in numbers if number is not None]
    used = group.number("memory.current") or group.number("memory.usage_in_bytes") or 0
    return min(limits, default=None), used


def _reclaimable(group: Group, name: str) -> int:
    # Bytes of file cache; those of version 1 without `total_` leave out the groups below.
    return group.statistic("memory.stat", f"total_{name}", name) or 0


def _total(root: Path) -> int:
    known = hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names
    return system_bytes(root / "proc/meminfo", "MemTotal") or (
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else 0
    )


def _processes(root: Path) -> list[tuple[Limit, int]]:
    # Limits of processes and threads, and the number that counts towards each.
    limits = []
    for name in ("threads-max", "pid_max"):
        if (number := limited(read_system(root / "proc/sys/kernel" / name))) is not None:
            total = read_system(root / "proc/loadavg").partition("/")[2].split()[:1]
            limits.append((Limit(number, "the machine"), limited("".join(total)) or 0))
    for group in groups_of("pids", root):
        if (number := group.number("pids.max")) is not None:
            limits.append((Limit(number, group.source("pids.max")), group.number("pids.current") or 0))
    number, user = _resource_limit(root, "Max processes"), _user(root / "proc/self/status")
    if number is not None and user not in ("", "0"):  # the kernel does not apply it to root
        limits.append((Limit(number, "ulimit -u"), _threads_of(user, root)))
    return limits


def _resource_limits(root: Path) -> list[tuple[int, str, str]]:
    # Bytes, source, and the entry of /proc/self/status that counts towards it.
    asked = [("Max address space", "ulimit -v", "VmSize"), ("Max data size", "ulimit -d", "VmData")]
    limits = [(_resource_limit(root, name), source, used) for name, source, used in asked]
    return [(number, source, used) for number, source, used in limits if number is not None]


def _resource_limit(root: Path, name: str) -> int | None:
    match = re.search(rf"^{name}\s+(\S+)", read_system(root / "proc/self/limits"), re.MULTILINE)
    return limited(match[1]) if match else None


def _threads_of(user: str, root: Path) -> int:
    states = (path for path in (root / "proc").glob("[0-9]*/status") if _user(path) == user)
    return sum(int(match[1]) for path in states if (match := re.search(r"^Threads:\s*(\d+)", read_system(path), re.M)))


def _user(status: Path) -> str:
    match = re.search(r"^Uid:\s*(\d+)", read_system(status), re.MULTILINE)
    return match[1] if match else ""
