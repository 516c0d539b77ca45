"""How long steps take when several run at once."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

from autosparse.plan.step import Step


def makespan(steps: Iterable[Step], seconds: Mapping[str, float], workers: int) -> float:
    """Seconds until the last of the `steps` is made, `workers` at once, each the first whose inputs are there.

    `seconds` are those of the steps to make, by name; inputs without any are there already.
    """
    chosen = [step for step in steps if step.name in seconds]
    place = {step.name: number for number, step in enumerate(chosen)}
    needs = [{place[name] for name in step.inputs.values() if name in place} for step in chosen]
    serves: list[list[int]] = [[] for _ in chosen]
    for number, needed in enumerate(needs):
        for name in needed:
            serves[name].append(number)
    ready = [number for number, needed in enumerate(needs) if not needed]
    running: list[tuple[float, int]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < workers:
            number = heapq.heappop(ready)
            heapq.heappush(running, (now + seconds[chosen[number].name], number))
        now, done = heapq.heappop(running)
        for number in serves[done]:
            needs[number].discard(done)
            if not needs[number]:
                heapq.heappush(ready, number)
    return now
