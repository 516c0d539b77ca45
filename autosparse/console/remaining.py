"""How long a run still takes."""

from __future__ import annotations

import time
from collections.abc import Iterable

from autosparse.console.screen import seconds
from autosparse.plan import Fitted, Step

_TRUSTED = 15.0


class Remaining:
    """The time left: what the plan priced, corrected by how long what is done took."""

    def __init__(self, fitted: Fitted) -> None:
        self.names = fitted.to_run
        known = [fitted.price.steps[name].seconds for name in self.names if name in fitted.price.steps]
        self._priced = len(known) == len(self.names)
        usual = max(0.01, sum(known) / len(known)) if known else 1.0
        self._seconds = {
            name: fitted.price.steps[name].seconds if name in fitted.price.steps else usual for name in self.names
        }
        self._left = dict(self._seconds)
        self._all = sum(self._left.values())
        self._begin = time.monotonic()
        # What is priced are steps one after another; how long they take side by side is what passes.
        self._together = fitted.seconds / self._all if self._all and fitted.seconds else 1.0

    def done(self, step: Step, share: float = 1.0) -> None:
        """A share of a step is done."""
        self._left[step.name] = self._seconds.get(step.name, 0.0) * (1 - share)

    def leave_out(self, names: Iterable[str]) -> None:
        """Leave steps out that will not run."""
        self._all -= sum(self._left.pop(name, 0.0) for name in names)

    @property
    def share(self) -> float:
        """Of the whole that is done."""
        return 1 - sum(self._left.values()) / self._all if self._all else 1.0

    @property
    def text(self) -> str:
        """In words."""
        left = sum(self._left.values())
        done = self._all - left
        elapsed = time.monotonic() - self._begin
        if self._priced:
            # What was planned weighs as much as so many seconds of it: at first only processes begin.
            pace = (elapsed + _TRUSTED) / (done * self._together + _TRUSTED)
            return f"about {seconds(left * self._together * pace)} left"
        return f"about {seconds(left * elapsed / done)} left" if done else "time left not known yet"
