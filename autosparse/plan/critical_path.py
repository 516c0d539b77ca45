"""The critical path of a plan: which steps go first, and how long all take on several workers."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from graphlib import TopologicalSorter

from autosparse.plan.model import Step


def urgency(steps: Iterable[Step], seconds: Mapping[str, float]) -> dict[str, float]:
    """Step name -> seconds until the end of the longest chain of steps that begins with it.

    Of steps that can begin the most urgent goes first (critical path scheduling). `steps` come after what they take.
    """
    urgent: dict[str, float] = {}
    for step in reversed([*steps]):
        # What takes it has raised it already: to its own seconds must be added those of what follows.
        urgent[step.name] = urgent.get(step.name, 0.0) + seconds.get(step.name, 0.0)
        for name in step.inputs.values():
            urgent[name] = max(urgent.get(name, 0.0), urgent[step.name])
    return urgent


def makespan(steps: Iterable[Step], seconds: Mapping[str, float], workers: int) -> float:
    """Seconds until the last of the `steps` is made, `workers` at once, each the most urgent whose inputs are there.

    `seconds` are those of the steps to make, by name; inputs without any are there already.
    """
    chosen = [step for step in steps if step.name in seconds]
    urgent = urgency(chosen, seconds)
    chosen.sort(key=lambda step: -urgent[step.name])  # stable: else in the plan's order
    positions = {step.name: number for number, step in enumerate(chosen)}
    sorter: TopologicalSorter[int] = TopologicalSorter()
    for number, step in enumerate(chosen):
        sorter.add(number, *(positions[name] for name in step.inputs.values() if name in positions))
    sorter.prepare()
    ready: list[int] = []
    running: list[tuple[float, int]] = []
    now = 0.0
    while sorter.is_active():
        for number in sorter.get_ready():
            heapq.heappush(ready, number)
        while ready and len(running) < workers:
            number = heapq.heappop(ready)
            heapq.heappush(running, (now + seconds[chosen[number].name], number))
        now, done = heapq.heappop(running)
        sorter.done(done)
    return now
