"""A run as it goes, on a terminal: the plan as a tree that fills in."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from autosparse.backends import resident_memory
from autosparse.console.remaining import Remaining
from autosparse.console.screen import plain, seconds, size, sparkline
from autosparse.execute import with_skipped
from autosparse.plan import PURPOSES, Fitted, Step
from autosparse.steps import Metrics, operations

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
