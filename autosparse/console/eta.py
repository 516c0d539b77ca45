"""ETA of a run: a filter of how much longer than their estimates steps take, by kind, and the schedule that is left.

The logarithm of a step's seconds over its estimate is the sum of three levels: of the machine, of the step's network,
and of its kind. A Kalman filter follows them: the machine's level drifts, as other processes come and go; the other
two stay. Levels without an observation keep the estimates' proportions, so every finished step improves all others.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from autosparse.backends import Event, Failed, Finished, Progress, Started, Waiting
from autosparse.cost.fitted import Fitted
from autosparse.lazy_torch import numpy
from autosparse.planning.graph import makespan

_LEVEL, _NETWORK, _KIND = 1.2, 0.5, 0.4  # standard deviations before any observation: factors of 3.3, 1.6 and 1.5
_SURE_KIND = 0.2  # of a kind whose estimate comes from finished steps
_DRIFT = 0.1  # variance by which the machine's level grows while the elapsed time doubles
_NOISE = 0.02  # variance of one step of typical size; a tenth of its work weighs about a tenth
_OUTLIER = 2.5  # standard deviations beyond which an observation counts less
_KNOWN = 0.45  # standard deviation of the ETA from which it is shown: a factor of 1.6
_EARLY, _LATE = 0.03, 0.2  # shares of a run until which it is unknown, and from which it is always shown
_SMOOTH = 0.03  # share of the elapsed time over which the ETA moves to a new value
_OVERDUE = 0.2  # share of its elapsed time that an overdue step is assumed to take in addition
_FRESH = 0.2  # seconds for which a value is kept
_MARKS = 64  # progress events kept of a step
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)  # seconds, to round to


class Pace:
    """Kalman filter of log(seconds / estimate): `levels` are the names of the levels that a step's value sums up."""

    def __init__(self, deviations: dict[str, float]) -> None:
        self._at = {name: number for number, name in enumerate(deviations)}
        self._mean = numpy.zeros(len(self._at))
        self._variance = numpy.diag(numpy.square([*deviations.values()]))

    def copy(self) -> Pace:
        """Return a filter that can be updated apart from this one."""
        other = Pace({})
        other._at, other._mean, other._variance = self._at, self._mean.copy(), self._variance.copy()
        return other

    def predict(self, levels: Sequence[str]) -> float:
        """Return the expected seconds of a step as a multiple of its estimate."""
        return math.exp(sum(self._mean[self._at[name]] for name in levels))

    def observe(self, levels: Sequence[str], times: float, noise: float, drift: float = 0.0) -> None:
        """Update the levels by a step that takes `times` its estimate; `drift` is the first level's added variance."""
        at = [self._at[name] for name in levels]
        self._variance[at[0], at[0]] += drift
        joint = self._variance[:, at].sum(axis=1)
        spread = joint[at].sum() + noise
        gain = joint / spread
        surprise = math.log(times) - self._mean[at].sum()
        usual = _OUTLIER * math.sqrt(spread)
        self._mean = self._mean + gain * max(-usual, min(usual, surprise))
        self._variance = self._variance - numpy.outer(gain, joint)

    def deviation(self, shares: dict[Sequence[str], float]) -> float:
        """Return the standard deviation of the logarithm of a sum, given the share of each group of levels in it."""
        weights = numpy.zeros(len(self._at))
        for levels, share in shares.items():
            weights[[self._at[name] for name in levels]] += share
        return math.sqrt(max(0.0, float(weights @ self._variance @ weights)))


@dataclass
class _Running:
    """A running step: begin, and the progress since then as (time, share done)."""

    begin: float
    waits: bool = False
    marks: list[tuple[float, float]] = field(default_factory=list)

    def mark(self, now: float, share: float) -> None:
        if self.marks and share <= self.marks[-1][1]:
            return
        self.marks.append((now, share))
        if len(self.marks) > _MARKS:
            self.marks = [*self.marks[:2], *self.marks[2:-1:2], self.marks[-1]]

    @property
    def first(self) -> float:
        """The share that was done at the begin: a rewound training begins in the middle."""
        if len(self.marks) < 2:
            return 0.0
        (_, one), (_, two) = self.marks[:2]
        return max(0.0, 2 * one - two)

    @property
    def done(self) -> float:
        """The share of this run's part of the step that is done."""
        return (self.marks[-1][1] - self.first) / max(1e-9, 1 - self.first) if self.marks else 0.0

    def rate(self, now: float) -> float:
        """Return the share done per second, over the last half of the progress."""
        (last, share), first = self.marks[-1], self.first
        points = [(self.begin, first), *self.marks[:-1]]
        since, before = max(point for point in points if point[1] <= (first + share) / 2)
        slower = (share - before + self._step) / max(1e-6, now - since)  # no event for longer than usual
        return min((share - before) / max(1e-6, last - since), slower)

    def left(self, now: float) -> float:
        """Return the seconds left at this rate."""
        last, share = self.marks[-1]
        rate = self.rate(now)
        return max(0.0, (1 - share) / rate - min(now - last, self._step / rate))

    @property
    def _step(self) -> float:
        return self.marks[-1][1] - (self.marks[-2][1] if len(self.marks) > 1 else 0.0)


class Eta:
    """Observer that estimates the seconds until the end of a run, and of each running step.

    The value is unknown until its standard error is below a factor of 1.6, or a fifth of the run is over.
    """

    def __init__(self, fitted: Fitted, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._begin = clock, clock()
        self._lock = threading.RLock()  # another thread draws
        self._steps, self._workers = fitted.plan.steps, fitted.workers
        self.names = fitted.to_run
        known = {name: max(1e-3, estimate.seconds) for name, estimate in fitted.estimates.items()}
        usual = sum(known.values()) / len(known) if known else 1.0
        self._prices = dict.fromkeys(self.names, usual) | known
        self._left = dict.fromkeys(self.names)
        self._running: dict[str, _Running] = {}
        self._levels, deviations = _levels_of(fitted)
        self._pace = Pace(deviations)
        total = sum(self._prices.values())
        # Errors of small steps say little about large ones.
        self._typical = sum(price**2 for price in self._prices.values()) / total if total else 1.0
        self._observed = self._updated = self._begin
        self._is_observed = False
        self._most = 1  # steps at once so far, which a cluster alone knows
        self._shown: float | None = None
        self._is_moved = False  # the work left has changed other than by being done
        self._rounded: float | None = None

    def on_event(self, event: Event) -> None:
        """Update the levels, the progress of a step, and the steps that are left."""
        with self._lock:
            self._receive(event, self._clock())

    def _receive(self, event: Event, now: float) -> None:
        match event:
            case Started(name):
                self._running[name] = _Running(now)
            case Waiting(name):
                self._running[name] = _Running(now, waits=True)
            case Progress(name, done, total) if name in self._running and total:
                self._running[name].mark(now, done / total)
            case Finished(name, status, lasted):
                self._finish(name, now, lasted if status != "reuse" else None)
            case Failed(name, _, skipped):
                for one in (name, *skipped):
                    self._remove(one)
                    self._running.pop(one, None)
        if self._is_moved or (isinstance(event, Finished) and now - self._updated > _FRESH):
            self._update(now)

    def _remove(self, name: str) -> None:
        # A step that this run does not make: the ETA falls at once.
        if name in self._left:
            del self._left[name]
            self._is_moved = True

    def _finish(self, name: str, now: float, lasted: float | None) -> None:
        self._running.pop(name, None)
        if lasted is None:
            self._remove(name)
        self._left.pop(name, None)
        for other, running in self._running.items():
            if name in self._steps[other].inputs.values():  # it waited for an input that was rebuilt
                running.begin, running.marks = now, []
        if lasted is not None and name in self._prices:
            price, elapsed = self._prices[name], now - self._begin
            drift = _DRIFT * (now - self._observed) / max(1.0, elapsed)
            noise = _NOISE * (1 + self._typical / price)
            self._pace.observe(self._levels[name], max(1e-3, lasted) / price, noise, drift)
            self._observed, self._is_observed = now, True

    def step_left(self, name: str) -> float | None:
        """Return the seconds until the end of a running step; None before its first progress."""
        with self._lock:
            running = self._running.get(name)
            if running is None or not running.marks or running.waits:
                return None
            return self._step_left(name, running, self._pace, self._clock())

    def _step_left(self, name: str, running: _Running, pace: Pace, now: float) -> float:
        elapsed, expected = now - running.begin, self._prices.get(name, 1.0)
        if name in self._levels:
            expected *= pace.predict(self._levels[name])
        if not (done := running.done):
            return max(expected - elapsed, _OVERDUE * elapsed)
        seen, known = running.left(now), done / (done + 0.1)
        if len(running.marks) == 1:
            known /= 2
        return float(max(seen, 1e-6) ** known * max(expected * (1 - done), 1e-6) ** (1 - known))

    def _now(self, now: float) -> tuple[Pace, Pace | None]:
        # The filter with the progress of the running steps, for values; and the one for their errors, once observed.
        pace, is_observed = self._pace.copy(), self._is_observed
        drift = _DRIFT * (now - self._observed) / max(1.0, now - self._begin)
        overdue = []
        for name, running in self._running.items():
            if name not in self._prices or running.waits:
                continue
            price, elapsed, done = self._prices[name], now - running.begin, running.done
            if len(running.marks) > 1:
                times = (1 - running.first) / running.rate(now)
                noise = _NOISE * (2 + self._typical / (price * done))
                pace.observe(self._levels[name], max(1e-3, times) / price, noise, drift)
                drift, is_observed = 0.0, True
            elif (times := (1 + _OVERDUE) * elapsed) > price * pace.predict(self._levels[name]):
                overdue.append((self._levels[name], times / price, _NOISE * (10 + self._typical / price)))
        sure = pace.copy() if is_observed else None
        for levels, times, noise in overdue:  # longer than expected so far: the levels rise, and are no surer for it
            pace.observe(levels, times, noise)
        return pace, sure

    def _raw(self, now: float) -> tuple[float, float]:
        # The seconds left, and the standard deviation of their logarithm.
        pace, sure = self._now(now)
        times = {levels: pace.predict(levels) for levels in {*self._levels.values()}}
        left = {name: self._prices[name] * times[self._levels[name]] for name in self._left}
        for name, running in self._running.items():
            left[name] = self._step_left(name, running, pace, now)
        workers = max(self._workers, self._at_once())
        if workers == 1:
            seconds = sum(left.values())
        else:
            steps = (step for step in self._steps.values() if step.name in left)
            seconds = makespan(steps, left, workers, first=self._running)
        shares: dict[Sequence[str], float] = {}
        total = sum(left.values())
        for name in left:
            if name in self._levels and total:
                levels = self._levels[name]
                shares[levels] = shares.get(levels, 0.0) + left[name] / total
        return seconds, math.inf if sure is None else sure.deviation(shares)

    def _at_once(self) -> int:
        # A step that waits for another process, or for the rebuild of its input, does not run.
        active = [name for name, running in self._running.items() if not running.waits]
        inputs = [self._steps[name].inputs.values() for name in active]
        self._most = max(self._most, sum(self._running.keys().isdisjoint(names) for names in inputs))
        return self._most

    def _update(self, now: float) -> None:
        seconds, deviation = self._raw(now)
        elapsed, since = now - self._begin, now - self._updated
        share = elapsed / max(1e-6, elapsed + seconds)
        if self._shown is None:
            is_known = deviation <= (_KNOWN if share < _LATE else sys.float_info.max)
            self._shown = seconds if is_known and share >= _EARLY else None
        elif self._is_moved:
            self._shown, self._rounded = seconds, None
        else:
            gain = 1 - math.exp(-since / max(1.0, _SMOOTH * elapsed))
            aged = max(1e-3, self._shown - since)
            self._shown = float(aged ** (1 - gain) * max(1e-3, seconds) ** gain)
        self._updated, self._is_moved = now, False

    @property
    def seconds(self) -> float | None:
        """The smoothed seconds until the end; None while they are unknown."""
        with self._lock:
            now = self._clock()
            if now - self._updated > _FRESH:
                self._update(now)
            return None if self._shown is None else max(0.0, self._shown - (now - self._updated))

    @property
    def text(self) -> str:
        """The ETA in words, rounded."""
        value = self.seconds
        if value is None:
            return "ETA unknown"
        step = _step_of(value)
        if self._rounded is None or value <= self._rounded or value > self._rounded + step:
            self._rounded = value  # a small rise is not shown
        return f"about {rounded(self._rounded)} left"


def rounded(value: float) -> str:
    """Return a duration in words, rounded to a step of about a tenth of it."""
    step = _step_of(value)
    value = max(step, round(value / step) * step)
    if value < 120:
        return f"{value:.0f} s"
    if value < 3600:
        minutes, rest = divmod(round(value), 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    if value < 48 * 3600:
        hours, minutes = divmod(round(value / 60), 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{value / 86400:,.0f} days"


def _step_of(value: float) -> float:
    return float(max((step for step in _STEPS if 8 * step <= value), default=1))


def _levels_of(fitted: Fitted) -> tuple[dict[str, tuple[str, ...]], dict[str, float]]:
    # The levels of each step, and the standard deviation of each level.
    levels: dict[str, tuple[str, ...]] = {}
    deviations = {"machine": _LEVEL}
    for name in fitted.to_run:
        work, estimate = fitted.price.works.get(name), fitted.estimates.get(name)
        operation = fitted.plan.steps[name].operation
        kind = f"kind {work.kind if work else operation}"
        network = f"network {work.network} {work.load.batch > 0} {work.load.kernels}" if work else "network"
        sure = estimate is not None and estimate.basis == "finished steps"
        deviations[network] = _NETWORK
        deviations[kind] = _SURE_KIND if sure else _KIND
        levels[name] = ("machine", network, kind)
    return levels, deviations
