"""Latency of an emitted model next to the dense network's, measured in interleaved rounds of one process."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from annotated_types import Gt, Lt

from autosparse.backends import runnable_others
from autosparse.core.inputs import Inputs
from autosparse.exporters._base import Function
from autosparse.lazy_torch import numpy, torch
from autosparse.text import plural

SPREAD = 0.15
"""Interquartile range of a stable ratio, relative to its median, at most"""
_WAIT = 0.05  # share of its time that a process on an idle machine waits for a processor, at most
_ROUNDS, _FEWEST, _MOMENT = 15, 5, 0.4  # rounds of one measurement, and their time limit in seconds
_SAMPLE = 1e-3  # seconds of one timing at least: faster models are called several times
_SHORTEST = 1e-6  # seconds of one call at least, whatever the clock's resolution
_WARM, _WARMING = 20, 0.05  # calls of a model before its timings, and their time limit in seconds
_COLD = 0.02  # seconds: a slower model gains nothing from caches that its last call left
_PAUSE = 0.1  # seconds before a repetition: a short load, such as a starting process, may pass
_SPREADING = 0.01  # seconds in which a scheduler moves the threads of a runtime to different cores
_SETTLE, _NAP = 0.06, 0.001  # seconds that idle threads may spin, and between two looks at them


Time = Annotated[float, Gt(0), Lt(1e100)]


@dataclass(frozen=True)
class Quartiles:
    """Lower quartile, median and upper quartile of repeated measurements."""

    low: Time
    median: Time
    high: Time

    @property
    def spread(self) -> float:
        """Interquartile range, relative to the median."""
        return (self.high - self.low) / self.median


@dataclass(frozen=True)
class Speed:
    """Speed of an emitted model for one batch size; milliseconds of a batch, and ratios of timings of one round.

    `stable` is False where the spread of a ratio hides the effect or the machine was busy; `reason` says which.
    """

    emitted_ms: Quartiles
    dense_ms: Quartiles | None
    """the dense network in the runtime of the model's format; None if that cannot open it"""
    torch_ms: Quartiles
    """the dense network in PyTorch eager mode"""
    speedup: Quartiles | None
    """`dense_ms` / `emitted_ms`: one runtime on both sides"""
    runtime_gain: Quartiles | None
    """`torch_ms` / `dense_ms`; None if the runtime is PyTorch eager mode itself"""
    rounds: Annotated[int, Gt(0), Lt(2**63)]
    stable: bool
    reason: str = ""


class Patience:
    """Time to repeat unstable measurements: seconds for `each` of them, and in `total`."""

    def __init__(self, each: float = 1.5, total: float = 3.0) -> None:
        self._each, self._left = each, total

    def measure(self, measure: Callable[[], Speed]) -> Speed:
        """Return the first stable measurement, or the last one for which there is time."""
        begin = time.perf_counter()
        speed = measure()
        first = time.perf_counter()
        duration, limit = first - begin, min(self._each, self._left)
        while not speed.stable and speed.speedup is not None and time.perf_counter() - first + duration < limit:
            time.sleep(_PAUSE)
            speed = measure()
        self._left -= time.perf_counter() - first
        return speed


def measure_speed(
    emitted: Function, dense: Function | None, eager: Function, images: Inputs, *, patience: Patience
) -> Speed:
    """Time an emitted model, the dense network in its runtime, and the dense network in PyTorch eager mode.

    Args:
        emitted: Emitted model.
        dense: Dense network in the same runtime; `eager` itself for PyTorch eager mode, None if it does not open.
        eager: Dense network in PyTorch eager mode.
        images: One batch of inputs, such as float `[images, channels, height, width]`.
        patience: Time for repeated measurements.

    Returns:
        Medians and quartiles of every side and of the ratios within rounds.
    """
    sides = {"emitted": emitted, "torch": eager}
    if dense is not None and dense is not eager:
        sides["dense"] = dense

    def measure() -> Speed:
        load = _Load()
        timings = _timings(sides, images, load)
        given = timings if "dense" in timings or dense is None else {**timings, "dense": timings["torch"]}
        return judge(given, load.problem(), shared=dense is eager)

    return patience.measure(measure)


def judge(timings: Mapping[str, Sequence[float]], problem: str = "", *, shared: bool = False) -> Speed:
    """Summarize the timings of all rounds, and judge whether they are stable.

    Args:
        timings: Seconds of one batch by side, round by round: `emitted`, `torch`, and `dense` if its runtime opens it.
        problem: Reason why the machine was busy, if it was.
        shared: Whether PyTorch eager mode is the runtime of the model.

    Returns:
        Speed, unstable if there is a problem, the runtime does not open the dense network, or a ratio varies too much.
    """
    emitted, eager, dense = (timings.get(side) for side in ("emitted", "torch", "dense"))
    assert emitted is not None
    assert eager is not None
    speedup = quartiles(_ratios(dense, emitted)) if dense is not None else None
    gain = quartiles(_ratios(eager, dense)) if dense is not None and not shared else None
    speed = Speed(
        emitted_ms=quartiles([1000 * value for value in emitted]),
        dense_ms=quartiles([1000 * value for value in dense]) if dense is not None else None,
        torch_ms=quartiles([1000 * value for value in eager]),
        speedup=speedup,
        runtime_gain=gain,
        rounds=len(emitted),
        stable=True,
    )
    for name, ratio in (("speed-up", speedup), ("runtime gain", gain)):
        if ratio is not None and ratio.spread > SPREAD and not problem:
            problem = f"the {name} varied by {100 * ratio.spread:.0f} % between rounds"
    if speedup is None and not problem:
        problem = "the runtime does not open the dense network"
    return replace(speed, stable=not problem, reason=problem)


def quartiles(values: Iterable[float]) -> Quartiles:
    """Return the quartiles of some values, rounded to six digits."""
    return Quartiles(*(float(f"{value:.6g}") for value in numpy.quantile([*values], (0.25, 0.5, 0.75))))


def _ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(above, below, strict=True)]


def _timings(sides: Mapping[str, Function], images: Inputs, load: _Load) -> dict[str, list[float]]:
    # Each timing is the mean of several calls, after one that brings the model back into the caches.
    with torch.no_grad():
        usual = {side: _warm_up(model, images) for side, model in sides.items()}
        calls = {side: max(1, math.ceil(_SAMPLE / max(value, _SHORTEST))) for side, value in usual.items()}
        timings: dict[str, list[float]] = {side: [] for side in sides}
        order = [*sides]
        begin = time.perf_counter()
        for number in range(_ROUNDS):
            if number >= _FEWEST and time.perf_counter() - begin > _MOMENT:
                break
            for side in order[number % len(order) :] + order[: number % len(order)]:
                _prepare(sides[side], images, usual[side], settle=len(sides) > 2)
                with load:
                    timings[side].append(_timed(sides[side], images, calls[side]))
            load.look()
    return timings


def _prepare(model: Function, images: Inputs, usual: float, *, settle: bool) -> None:
    # Bring a model's memory into the caches, and its threads onto the cores; several runtimes have threads of each.
    several = torch.get_num_threads() > 1
    if several and settle:
        _settle()
    begin = time.perf_counter()
    while usual < _COLD:
        model(images)
        if not several or time.perf_counter() - begin > _SPREADING:
            break


def _settle() -> None:
    # The threads of one runtime spin after its last call, onnxruntime's for 30 ms, and slow down the next runtime.
    begin = time.perf_counter()
    while time.perf_counter() - begin < _SETTLE:
        spent = time.process_time()
        time.sleep(_NAP)
        if time.process_time() - spent < _NAP / 2:
            return


def _warm_up(model: Function, images: Inputs) -> float:
    # The first call allocates and compiles; the fastest of the others estimates the rest.
    begin, fastest = time.perf_counter(), math.inf
    model(images)
    for _ in range(_WARM):
        fastest = min(fastest, _timed(model, images, 1))
        if time.perf_counter() - begin > _WARMING:
            break
    return fastest


def _timed(model: Function, images: Inputs, calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        model(images)
    return (time.perf_counter() - begin) / calls


def describe_load(*, wall: float, waited: float, threads: int, runnable: int, cores: int) -> str:
    """Return why a measurement is not to be trusted, or an empty text.

    Args:
        wall: Duration in seconds.
        waited: Seconds that the measuring thread was ready and had no processor.
        threads: Threads that compute.
        runnable: Threads of the machine that ran or wanted to, these included.
        cores: Cores of the machine.

    Returns:
        Sentence about the load.
    """
    share = waited / wall
    if share > _WAIT:
        return f"the machine was busy: it waited for a processor {100 * share:.0f} % of the time"
    if runnable > max(cores, threads):
        return f"the machine was busy: {runnable} threads wanted {plural(cores, 'core')}"
    return ""


class _Load:
    """Load of the machine while a process measures: a context manager around each timing, which sums them."""

    def __init__(self) -> None:
        self._threads = torch.get_num_threads()
        self._runnable: list[int] = []
        self._wall = self._spent = self._waited = 0.0

    def __enter__(self) -> _Load:
        self._begin = (time.perf_counter(), time.thread_time(), _waited())
        return self

    def __exit__(self, *_: object) -> None:
        wall, spent, waited = self._begin
        self._waited += _waited() - waited
        self._spent += time.thread_time() - spent
        self._wall += time.perf_counter() - wall

    def look(self) -> None:
        """Count the threads of the machine that want a core: those of others, and the ones that compute here."""
        self._runnable.append(runnable_others() + self._threads)

    def problem(self) -> str:
        """Return why the measurements are not to be trusted, or an empty text."""
        waited = self._waited
        if self._threads == 1 and os.name == "posix":  # one thread computes alone; Windows counts coarsely
            waited = max(waited, self._wall - self._spent)
        return describe_load(
            wall=self._wall,
            waited=waited,
            threads=self._threads,
            runnable=int(numpy.median(self._runnable)),
            cores=os.cpu_count() or 1,
        )


def _waited() -> float:
    # Seconds that this thread was ready and had no processor; 0 where the system does not count them. Threads that wait
    # for work count the moment in which they wake up too.
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0
