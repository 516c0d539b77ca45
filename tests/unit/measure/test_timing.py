"""Timing on a busy machine: idle seconds from processor time, the slowdown, and deadlines."""

from __future__ import annotations

import time

import pytest
import torch

from autosparse.measure.timing import CLOCKS, Clocks, Spent, Timer, present_slowdown, stopwatch, thread_times

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("spent", "idle"),
    [
        (Spent(2.0, 1.9, 1.0), 2.0),  # an idle machine
        (Spent(8.0, 0.1, 1.05), 8.0),  # a download on an idle machine
        (Spent(4.6, 2.0, 2.2), 2.0),  # load: the caller computes
        (Spent(9.0, 0.1, 3.0), 3.0),  # load: the caller waits for threads that compute
        (Spent(4.6, 2.0, 0.0), 2.0),  # no times of threads
        (Spent(20.0, 1.9, 0.0), 1.9),
        (Spent(8.0, 0.1, 0.0), 8.0),
        (Spent(1.0, 1.2, 0.0), 1.0),  # clocks of other grain
    ],
)
def test_idle_seconds(spent: Spent, idle: float) -> None:
    """Wall time on an idle machine; else processor time, or wall time by the slowdown where the caller waits."""
    assert idle == spent.idle


class Machine:
    """A machine with clocks that the work moves."""

    def __init__(self, *, known: bool = True) -> None:
        self.wall = self.processor = 0.0
        self.known = known

    @property
    def clocks(self) -> Clocks:
        return Clocks(lambda: self.wall, lambda: self.processor, self._threads)

    def _threads(self) -> tuple[float, float]:
        return (self.processor, self.wall - self.processor) if self.known else (0.0, 0.0)

    def work(self, wall: float, processor: float) -> None:
        self.wall, self.processor = self.wall + wall, self.processor + processor


@pytest.mark.parametrize("known", [True, False])
def test_the_least_of_several_repeats_counts(known: bool) -> None:
    """In processor time under load; the slowdown is that of all repeats."""
    machine = Machine(known=known)
    calls = iter([(0.5, 0.3), (1.0, 0.2), (0.3, 0.25), (9.0, 0.2)])
    timer = Timer(CPU, clocks=machine.clocks)

    assert pytest.approx(0.2) == timer.least(lambda: machine.work(*next(calls)), 10.0)
    assert 10.8 / 0.95 == pytest.approx(timer.slowdown)


def test_a_deadline_ends_repeats_and_refuses_work() -> None:
    """A call that may end after the deadline is not begun, and long work is not allowed under load."""
    machine = Machine()
    timer = Timer(CPU, 10.0, machine.clocks)
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        machine.work(2.0, 0.5)

    assert timer.allows(5.0)
    assert 0.5 == timer.least(work, 100.0)
    assert 4.0 == timer.slowdown
    assert 3 == len(calls)
    assert timer.allows(0.5)
    assert not timer.allows(0.6)


def test_a_gpu_is_timed_by_the_wall() -> None:
    """The calling thread only waits; the load of a GPU is unknown."""
    machine = Machine()
    timer = Timer(torch.device("meta"), clocks=machine.clocks)

    assert 4.0 == timer.once(lambda: machine.work(4.0, 0.1))
    assert 1.0 == timer.slowdown


def test_threads_that_end_hide_the_slowdown() -> None:
    """Sums that fall are no times."""
    times = iter([(5.0, 5.0), (4.0, 1.0)])
    spent = stopwatch(Clocks(time.perf_counter, time.thread_time, lambda: next(times)))()

    assert 0.0 == spent.slowdown


def test_the_clocks_of_this_system() -> None:
    """Processor time does not pass while the thread sleeps; threads ran before."""
    read = stopwatch(CLOCKS)
    time.sleep(0.05)
    spent = read()

    assert spent.processor < 0.05 <= spent.wall
    assert all(seconds >= 0 for seconds in thread_times())
    assert 1.0 <= present_slowdown(1) < 1000
