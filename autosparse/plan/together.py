"""How many steps run at once: as many as there are cores and memory for, where that saves time."""

from __future__ import annotations

from dataclasses import replace

from autosparse.plan.fitted import Fitted, Taken

_SAVES = 0.8  # several at once are worth it where they take no more than this share of the time
_BRIEF = 20.0  # seconds below which workers, which take seconds to begin, are not


def with_workers(fitted: Fitted, cores: int) -> Fitted:
    """The plan with as many workers as its target asks for and memory holds, or as `auto` stands for."""
    target = fitted.plan.spec.target
    peaks = sorted(
        (fitted.price.steps[name].peak_bytes for name in fitted.to_run if name in fitted.price.steps), reverse=True
    )
    asked = target.workers
    assert isinstance(target.threads, int)
    if asked == "auto" and (
        target.devices > 1 or target.device != "cpu" or not fitted.priced or fitted.seconds < _BRIEF
    ):
        return fitted
    if target.devices > 1:  # workers have no processes of their own
        return replace(fitted, taken=(*fitted.taken, Taken("target.workers", asked, 1, "devices")))
    wanted = max(1, cores // target.threads) if asked == "auto" else asked
    room = next((n for n in range(len(peaks)) if sum(peaks[: n + 1]) > fitted.memory), wanted)
    number = max(1, min(wanted, room))
    if asked == "auto":
        return replace(fitted, workers=number if fitted.lasting(number) <= _SAVES * fitted.seconds else 1)
    taken = (Taken("target.workers", asked, number, "memory"),) if number < asked else ()
    return replace(fitted, workers=number, taken=(*fitted.taken, *taken))
