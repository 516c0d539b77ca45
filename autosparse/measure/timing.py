"""Timing that holds on a busy machine: seconds that work takes on an idle one, and the slowdown by other processes.

On a CPU the calling thread's processor time counts, since torch computes in that thread. The idle time of work that
waits for other threads or for files is its wall time, divided by the slowdown of the process.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from autosparse.backends import idle_cores
from autosparse.lazy_torch import torch

_QUIET = 1.1  # slowdown of a machine that counts as idle: wall time is right there
_CALLER = 0.5  # minimum share of the idle time that a calling thread computes, unless it waits for others
_RAN = 0.03  # minimum share of the wall time in which a calling thread computes, under any load
_GRAIN = 0.02  # seconds below which the system's times of threads are too coarse
_CHUNK = bytes(2**20)  # hashing releases the GIL
_TRIAL = 0.05  # seconds of a measurement of the present slowdown
_MANY = 200  # maximum repeats


def thread_times() -> tuple[float, float]:
    """Return the seconds that the threads of this process ran, and waited for a core; zeros where unknown."""
    ran = waited = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError, ValueError):  # a thread that has ended
            first, second, *_ = map(int, path.read_text(encoding="ascii").split())
            ran, waited = ran + first, waited + second
    return ran / 1e9, waited / 1e9


@dataclass(frozen=True)
class Clocks:
    """Clocks in seconds: wall time, processor time of the calling thread, and running and waiting of all threads."""

    wall: Callable[[], float] = time.perf_counter
    processor: Callable[[], float] = time.thread_time if os.name == "posix" else time.perf_counter
    threads: Callable[[], tuple[float, float]] = thread_times


CLOCKS = Clocks()
"""The clocks of the system."""


@dataclass(frozen=True)
class Spent:
    """Seconds of an interval: on the wall, and of the calling thread; `slowdown` is 0 where the system has none."""

    wall: float
    processor: float
    slowdown: float

    @property
    def idle(self) -> float:
        """The seconds on an idle machine."""
        if not self.slowdown:  # without the times of all threads: a thread that hardly ran waited for something else
            return min(self.wall, self.processor) if self.processor > _RAN * self.wall else self.wall
        if self.slowdown < _QUIET:
            return self.wall
        scaled = self.wall / self.slowdown
        return min(self.processor, self.wall) if self.processor >= _CALLER * scaled else scaled


def stopwatch(clocks: Clocks = CLOCKS) -> Callable[[], Spent]:
    """Start a stopwatch and return the function that reads it, in the same thread."""
    wall, processor, (ran, waited) = clocks.wall(), clocks.processor(), clocks.threads()

    def read() -> Spent:
        elapsed, computed = clocks.wall() - wall, clocks.processor() - processor
        running, waiting = (now - before for now, before in zip(clocks.threads(), (ran, waited), strict=True))
        # Threads that ended meanwhile are missing: then the sums may even fall.
        known = running > _GRAIN and waiting >= 0
        return Spent(elapsed, computed, 1 + waiting / running if known else 0.0)

    return read


@dataclass
class Timer:
    """Timer of repeated work on a device, within a `limit` of wall seconds; a slow machine gets less work, not time."""

    device: torch.device
    limit: float = math.inf
    clocks: Clocks = CLOCKS
    wall: float = field(default=0.0, init=False)
    """wall seconds of all timed work"""
    idle: float = field(default=0.0, init=False)
    """seconds of the same work on an idle machine"""

    def __post_init__(self) -> None:
        self._begin = self.clocks.wall()

    @property
    def left(self) -> float:
        """The wall seconds until the deadline."""
        return self._begin + self.limit - self.clocks.wall()

    @property
    def slowdown(self) -> float:
        """Wall time of the work so far over its idle time; 1 on a GPU, whose load is unknown."""
        return max(1.0, self.wall / self.idle) if self.idle else 1.0

    def allows(self, seconds: float) -> bool:
        """Return whether work of these idle seconds ends before the deadline, at the present slowdown."""
        return 2 * seconds * self.slowdown <= self.left

    def once(self, work: Callable[[], object]) -> float:
        """Return the idle seconds of one call."""
        return self.least(work, 0.0)

    def least(self, work: Callable[[], object], moment: float) -> float:
        """Return the least idle seconds of at least one call, within `moment` wall seconds and before the deadline."""
        whole, spent = stopwatch(self.clocks), list[Spent]()
        begin = self.clocks.wall()
        while not spent or (
            self.clocks.wall() - begin < moment and len(spent) < _MANY and self.left > 2 * spent[-1].wall
        ):
            spent.append(self._call(work))
        total = whole()
        wall, processor = min(one.wall for one in spent), min(one.processor for one in spent)
        if self.device.type != "cpu":
            return wall
        self.wall += (elapsed := sum(one.wall for one in spent))
        self.idle += min(elapsed, Spent(elapsed, sum(one.processor for one in spent), total.slowdown).idle)
        return Spent(wall, processor, total.slowdown).idle

    def _call(self, work: Callable[[], object]) -> Spent:
        wall, processor = self.clocks.wall(), self.clocks.processor()
        work()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return Spent(self.clocks.wall() - wall, self.clocks.processor() - processor, 0.0)


def present_slowdown(threads: int) -> float:
    """Return how many times as long as on an idle machine a computation on these threads takes at this moment."""
    if idle_cores() >= threads:
        return 1.0
    slowdowns = [1.0] * threads

    def compute(number: int) -> None:
        wall, processor = time.perf_counter(), time.thread_time()
        while (elapsed := time.perf_counter() - wall) < _TRIAL:
            hashlib.sha256(_CHUNK)
        slowdowns[number] = elapsed / max(1e-9, time.thread_time() - processor)

    together = [threading.Thread(target=compute, args=(number,), daemon=True) for number in range(threads)]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()
    return max(1.0, sum(slowdowns) / threads)
