"""The number of threads for `target.threads: auto`: one for each of several workers, or several for one step."""

from __future__ import annotations

from collections.abc import Callable

from autosparse.backends import Machine
from autosparse.cost.fitted import BRIEF, Fitted
from autosparse.spec import Spec, resolve


def with_threads(spec: Spec, machine: Machine, attempt: Callable[[Spec], Fitted], idle: Callable[[], int]) -> Spec:
    """Return the spec with the number of threads that finishes its plan first, where it leaves the number open.

    Steps of one thread each run at once without waiting for each other; a chain of steps gains from more threads, by
    as much as the probes of both measure. On a busy machine, threads that wait for each other are several times slower:
    without two `idle` cores there is one, unless a time limit makes choices that load must not change. A tie goes to
    one thread, which other processes disturb least.
    """
    target = resolve(spec, machine).target
    is_open = spec.target.threads == "auto" and spec.target.workers == "auto"
    if not is_open or target.device != "cpu" or target.devices > 1 or target.elsewhere or machine.threads == 1:
        return spec
    is_limited = spec.target.seconds is not None or spec.tuning.seconds is not None
    if not is_limited and idle() < 2:
        return _of(spec, 1)
    several = machine.threads
    together = attempt(_of(spec, several))
    if not together.priced or together.seconds < BRIEF:  # not worth another probe
        return _of(spec, several)
    return _of(spec, 1 if attempt(_of(spec, 1)).seconds <= together.seconds else several)


def _of(spec: Spec, threads: int) -> Spec:
    return spec.model_copy(update={"target": spec.target.model_copy(update={"threads": threads})})
