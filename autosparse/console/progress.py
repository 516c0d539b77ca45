"""Progress of a run on stderr: a live tree on a terminal, one line a step elsewhere, with the ETA."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from autosparse.backends import resident_memory
from autosparse.console.format import notes, plain
from autosparse.cost import Fitted
from autosparse.execute import with_skipped
from autosparse.plan import PURPOSES, Step
from autosparse.steps import Metrics, operations
from autosparse.text import seconds, size, sparkline

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


_MOST = 6  # steps at hand that are shown
_WIDTH, _NARROW = 16, 80  # of a bar; columns below which it is half as wide
_CURVE = 12  # values of a sparkline


@dataclass
class _AtHand:
    """A step that is being made."""

    step: Step
    begin: float
    done: int = 0
    total: int = 0
    loss: float | None = None
    waits: bool = False
    where: str = ""


class Tree:
    """A line for each purpose, under it the steps at hand, above all how far the whole is. A context manager."""

    def __init__(self, fitted: Fitted, console: Console) -> None:
        self._console = console
        self._remaining = Remaining(fitted)
        self._begin = time.monotonic()
        self._steps = {name: fitted.plan.steps[name] for name in fitted.found}
        self._finished: set[str] = set()
        self._lost: set[str] = set()  # steps that failed or were skipped
        self._made = 0
        self._at_hand: dict[str, _AtHand] = {}
        self._curves: dict[str, list[float]] = {}
        self._told: dict[str, str] = {}  # purpose -> what its last step measured
        self._live = Live(
            get_renderable=self.drawn, console=console, transient=True, refresh_per_second=4, redirect_stdout=False
        )

    def __enter__(self) -> Tree:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def started(self, step: Step, where: str = "") -> None:
        self._at_hand[step.name] = _AtHand(step, time.monotonic(), where=where)

    def progress(self, step: Step, done: int, total: int, loss: float | None) -> None:
        self._remaining.done(step, done / total)
        at_hand = self._at_hand[step.name]
        at_hand.done, at_hand.total, at_hand.loss = done, total, loss

    def waiting(self, step: Step) -> None:
        self._at_hand[step.name] = _AtHand(step, time.monotonic(), waits=True)

    def finished(self, step: Step, status: str, seconds_taken: float, metrics: Metrics) -> None:
        self._at_hand.pop(step.name, None)
        self._finished.add(step.name)
        self._lost.discard(step.name)
        if status != "reuse":
            self._remaining.done(step)
            self._made += 1
        self._measured(step, metrics)

    def failed(self, step: Step, message: str, skipped: Collection[str]) -> None:
        self._at_hand.pop(step.name, None)
        self._lost |= {step.name, *skipped}
        self._remaining.leave_out([step.name, *skipped])
        self.note(with_skipped(message, len(skipped)))

    def note(self, text: str) -> None:
        self._live.console.print(plain(f"note: {text}"), soft_wrap=True)

    def _measured(self, step: Step, metrics: Metrics) -> None:
        facts = operations[step.operation].facts
        value = metrics.get(facts.get("tells", ""))
        if not isinstance(value, int | float):
            return
        what = facts["tells"].replace("_", " ")
        if facts.get("best"):
            # One after another is one curve: trials come in batches, and know all of those before.
            curve = self._curves.setdefault(step.operation, [])
            curve.append(value)
            self._told[step.purpose] = f"{what} {sparkline(curve[-_CURVE:])} best {max(curve):.3g} of {len(curve)}"
        elif "previous" in step.inputs:
            curve = self._curves[step.name] = [*self._curves.get(step.inputs.get("previous", ""), []), value]
            self._told[step.purpose] = f"{what} {sparkline(curve[-_CURVE:])} {value:.1f}"
        else:
            self._curves[step.name] = [value]
            self._told[step.purpose] = f"{what} {value:.1f}, {step.name.partition('/')[2]}"

    def drawn(self) -> RenderableType:
        """The tree as it is now."""
        return Group(self._whole(), *self._purposes())

    def _whole(self) -> Text:
        names = self._remaining.names
        parts = [
            f"{self._made} of {max(self._made, len(names))} steps",
            f"{seconds(time.monotonic() - self._begin)}, {self._remaining.text}",
            size(resident_memory(children=True)),
        ]
        told = plain(" · ".join(parts), "bold")
        told.truncate(self._console.width, overflow="ellipsis")
        return told

    def _purposes(self) -> Iterator[RenderableType]:
        # Drawn by a thread of its own: what it walks through must not change meanwhile.
        every_at_hand, finished, lost = [*self._at_hand.values()], set(self._finished), set(self._lost)
        everything = Counter(step.purpose for step in self._steps.values())
        done = Counter(step.purpose for name, step in self._steps.items() if name in finished)
        table = Table.grid(padding=(0, 2, 0, 0))
        # As wide as they will ever be, so that nothing moves.
        names = max((4 + len(name) for name in self._remaining.names), default=0)
        first, narrow = max(24, min(names, self._console.width * 2 // 5)), 1 + 2 * len(str(max(everything.values())))
        for width in (first, narrow, max(8, self._console.width - first - narrow - 4)):
            justify: JustifyMethod = "right" if width == narrow else "left"
            table.add_column(no_wrap=True, overflow="ellipsis", width=width, justify=justify)
        shown = 0
        for purpose, title in PURPOSES.items():
            if not everything[purpose]:
                continue
            at_hand = [one for one in every_at_hand if one.step.purpose == purpose]
            whole = done[purpose] == everything[purpose]
            failed = any(self._steps[name].purpose == purpose for name in lost if name in self._steps)
            idle = ("x", "red") if failed else (" ", "dim")
            sign, style = ("+", "green") if whole else (">", "yellow") if at_hand else idle
            tally = f"{done[purpose]}/{everything[purpose]}"
            table.add_row(plain(f"{sign} {title}", style), plain(tally), plain(self._told.get(purpose, ""), "dim"))
            for one in at_hand[: max(0, _MOST - shown)]:
                table.add_row(plain(f"    {one.step.name}"), "", self._bar(one))
            shown += len(at_hand)
        yield table
        if shown > _MOST:
            yield plain(f"    and {shown - _MOST} more steps at once", "dim")

    def _bar(self, one: _AtHand) -> Text:
        if one.waits:
            return plain("waiting: another process makes it", "cyan")
        took = time.monotonic() - one.begin
        where = f" on {one.where}" if one.where else ""
        if not one.done:
            return plain(f"{seconds(took)}{where}", "dim")
        width = _WIDTH if self._console.width >= _NARROW else _WIDTH // 2
        filled = round(width * one.done / one.total)
        rate = one.done / took if took else 0.0
        speed = f"{rate:.3g} a second" if rate >= 1 else f"{seconds(1 / rate) if rate else '?'} each"
        left = seconds(took * (one.total - one.done) / one.done)
        loss = "" if one.loss is None else f", loss {one.loss:.3g}"
        bar = Text("█" * filled, "yellow") + Text("░" * (width - filled), "dim")
        return bar + plain(f" {one.done} of {one.total}, {left} left, {speed}{loss}{where}")


_STILL = 30.0  # seconds after which a step says that it lives


class Quiet:
    """Tells nothing."""

    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *_: object) -> None: ...
    def started(self, step: Step, where: str = "") -> None: ...
    def progress(self, step: Step, done: int, total: int, loss: float | None) -> None: ...
    def finished(self, step: Step, status: str, seconds: float, metrics: Metrics) -> None: ...
    def failed(self, step: Step, message: str, skipped: Collection[str]) -> None: ...
    def waiting(self, step: Step) -> None: ...
    def note(self, text: str) -> None: ...


class Lines(Quiet):
    """A plain line a step, for files, pipes and CI."""

    def __init__(self, fitted: Fitted) -> None:
        self._console = notes()
        self._remaining = Remaining(fitted)
        self._number = 0
        self._told: dict[str, float] = {}

    def started(self, step: Step, where: str = "") -> None:
        self._told[step.name] = time.monotonic()

    def progress(self, step: Step, done: int, total: int, loss: float | None) -> None:
        self._remaining.done(step, done / total)
        if time.monotonic() - self._told[step.name] > _STILL:
            self._told[step.name] = time.monotonic()
            self._line(f"{step.name}  {done} of {total}")

    def finished(self, step: Step, status: str, seconds_taken: float, metrics: Metrics) -> None:
        if status != "reuse":
            self._remaining.done(step)
            self._number += 1
            total = max(self._number, len(self._remaining.names))  # what is damaged is run besides
            self._line(f"[{self._number}/{total}] {step.name}  {seconds(seconds_taken)}")

    def failed(self, step: Step, message: str, skipped: Collection[str]) -> None:
        self._remaining.leave_out([step.name, *skipped])
        self.note(with_skipped(message, len(skipped)))

    def waiting(self, step: Step) -> None:
        self.note(f"another process is making `{step.name}`; waiting for it")

    def note(self, text: str) -> None:
        self._console.print(plain(f"note: {text}"), soft_wrap=True)

    def _line(self, text: str) -> None:
        now = time.strftime("%H:%M:%S")
        self._console.print(plain(f"{now} {text}  {self._remaining.text}"), soft_wrap=True)


def follow(fitted: Fitted, *, quiet: bool) -> Any:
    """The observer that fits where stderr goes; a context manager."""
    console = notes()
    if quiet:
        return Quiet()
    return Tree(fitted, console) if console.is_terminal else Lines(fitted)
