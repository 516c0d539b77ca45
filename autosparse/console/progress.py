"""Progress of a run on stderr: a live tree on a terminal, one line a step elsewhere, with the ETA."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from autosparse.backends import Event, Failed, Finished, Note, Observer, Progress, Started, Waiting, resident_memory
from autosparse.console.eta import Eta, rounded
from autosparse.console.format import notes, plain
from autosparse.cost.fitted import Fitted
from autosparse.execute import Everyone, with_skipped
from autosparse.planning.model import PURPOSES, Step
from autosparse.steps import operations
from autosparse.text import plural, seconds, size, sparkline

_MOST = 6  # running steps that are shown
_WIDTH, _NARROW = 16, 80  # columns of a bar; columns of a terminal below which bars are half as wide
_CURVE = 12  # values of a sparkline


@dataclass
class _AtHand:
    """Step in progress."""

    step: Step
    begin: float
    progress: Progress | None = None
    waits: bool = False
    where: str = ""


class Tree:
    """Observer that draws a line for each purpose, its running steps below it, and the plan's progress on top.

    `live` shows it while entered.
    """

    def __init__(self, fitted: Fitted, console: Console) -> None:
        self._console = console
        self._eta = Eta(fitted, lambda: time.monotonic())
        self._begin = time.monotonic()
        self._plan = fitted.plan
        self._steps = {name: fitted.plan.steps[name] for name in fitted.statuses}
        self._finished: set[str] = set()
        self._lost: set[str] = set()  # failed or skipped steps
        self._made = 0
        self._at_hand: dict[str, _AtHand] = {}
        self._curves: dict[str, list[float]] = {}
        self._measured: dict[str, str] = {}  # purpose -> the metric of its last step
        self.live = Live(
            get_renderable=self.drawn, console=console, transient=True, refresh_per_second=4, redirect_stdout=False
        )

    def on_event(self, event: Event) -> None:
        """Update the tree; print notes and failures above it."""
        self._eta.on_event(event)
        match event:
            case Started(name, machine):
                self._at_hand[name] = _AtHand(self._plan.steps[name], time.monotonic(), where=machine)
            case Waiting(name):
                self._at_hand[name] = _AtHand(self._plan.steps[name], time.monotonic(), waits=True)
            case Progress(name):
                self._at_hand[name].progress = event
            case Finished():
                self._finish(event)
            case Failed(name, message, skipped):
                self._at_hand.pop(name, None)
                self._lost |= {name, *skipped}
                _note(self.live.console, with_skipped(message, len(skipped)))
            case Note(text):
                _note(self.live.console, text)

    def _finish(self, event: Finished) -> None:
        self._at_hand.pop(event.step, None)
        self._finished.add(event.step)
        self._lost.discard(event.step)
        self._made += event.status != "reuse"
        step = self._plan.steps[event.step]
        facts = operations[step.operation].facts
        value = event.metrics.get(facts.get("metric", ""))
        if isinstance(value, int | float):
            name = facts["metric"].replace("_", " ")
            self._measured[step.purpose] = f"{name} {self._curve(step, value, best=facts.get('best', False))}"

    def _curve(self, step: Step, value: float, *, best: bool) -> str:
        if best:
            # A sequence of trials is one curve: trials come in batches and know all earlier ones.
            curve = self._curves.setdefault(step.operation, [])
            curve.append(value)
            return f"{sparkline(curve[-_CURVE:])} best {max(curve):.3g} of {len(curve)}"
        before = self._curves.get(step.inputs.get("previous", ""), [])
        curve = self._curves[step.name] = [*before, value]
        if "previous" in step.inputs:
            return f"{sparkline(curve[-_CURVE:])} {value:.1f}"
        return f"{value:.1f}, {step.name.partition('/')[2]}"

    def drawn(self) -> RenderableType:
        """Return the current tree."""
        return Group(self._whole(), *self._purposes())

    def _whole(self) -> Text:
        names = self._eta.names
        parts = [
            f"{self._made} of {plural(max(self._made, len(names)), 'step')}",
            f"{seconds(time.monotonic() - self._begin)}, {self._eta.text}",
            size(resident_memory(children=True)),
        ]
        line = plain(" · ".join(parts), "bold")
        line.truncate(self._console.width, overflow="ellipsis")
        return line

    def _purposes(self) -> Iterator[RenderableType]:
        # Another thread draws: these must not change meanwhile.
        every_at_hand, finished, lost = [*self._at_hand.values()], set(self._finished), set(self._lost)
        everything = Counter(step.purpose for step in self._steps.values())
        done = Counter(step.purpose for name, step in self._steps.items() if name in finished)
        table = Table.grid(padding=(0, 2, 0, 0))
        # Fixed widths, so that nothing moves.
        names = max((4 + len(name) for name in self._eta.names), default=0)
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
            table.add_row(plain(f"{sign} {title}", style), plain(tally), plain(self._measured.get(purpose, ""), "dim"))
            for one in at_hand[: max(0, _MOST - shown)]:
                table.add_row(plain(f"    {one.step.name}"), "", self._bar(one))
            shown += len(at_hand)
        yield table
        if shown > _MOST:
            yield plain(f"    and {shown - _MOST} more steps at once", "dim")

    def _bar(self, one: _AtHand) -> Text:
        if one.waits:
            return plain("waiting for another process", "cyan")
        took = time.monotonic() - one.begin
        where = f" on {one.where}" if one.where else ""
        if not one.progress or not (done := one.progress.done):
            return plain(f"{seconds(took)}{where}", "dim")
        total = one.progress.total
        width = _WIDTH if self._console.width >= _NARROW else _WIDTH // 2
        filled = round(width * done / total)
        rate = done / took if took else 0.0
        speed = f"{rate:.3g} a second" if rate >= 1 else f"{seconds(1 / rate) if rate else '?'} each"
        seconds_left = self._eta.step_left(one.step.name)
        left = "" if seconds_left is None else f", {rounded(seconds_left)} left"
        loss = "" if one.progress.loss is None else f", loss {one.progress.loss:.3g}"
        bar = Text("█" * filled, "yellow") + Text("░" * (width - filled), "dim")
        return bar + plain(f" {done} of {total}{left}, {speed}{loss}{where}")


_STILL = 30.0  # seconds after which a running step reports progress


class Lines:
    """Observer that prints a plain line a step, for files, pipes and CI."""

    def __init__(self, fitted: Fitted) -> None:
        self._console = notes()
        self._eta = Eta(fitted, lambda: time.monotonic())
        self._number = 0
        self._printed: dict[str, float] = {}  # step -> time of its last line

    def on_event(self, event: Event) -> None:
        """Print a line for a finished step, a note or a failure, and occasionally for progress."""
        self._eta.on_event(event)
        match event:
            case Started(name):
                self._printed[name] = time.monotonic()
            case Progress(name, done, total):
                if time.monotonic() - self._printed[name] > _STILL:
                    self._printed[name] = time.monotonic()
                    self._line(f"{name}  {done} of {total}")
            case Finished(name, status, lasted) if status != "reuse":
                self._number += 1
                total = max(self._number, len(self._eta.names))  # rebuilt steps are not in the plan's total
                self._line(f"[{self._number}/{total}] {name}  {seconds(lasted)}")
            case Failed(_, message, skipped):
                _note(self._console, with_skipped(message, len(skipped)))
            case Waiting(name):
                _note(self._console, f"waiting for another process that runs `{name}`")
            case Note(text):
                _note(self._console, text)

    def _line(self, text: str) -> None:
        now = time.strftime("%H:%M:%S")
        self._console.print(plain(f"{now} {text}  {self._eta.text}"), soft_wrap=True)


def _note(console: Console, text: str) -> None:
    console.print(plain(f"note: {text}"), soft_wrap=True)


@contextmanager
def follow(fitted: Fitted, *, quiet: bool) -> Iterator[Observer]:
    """Yield the observer for the kind of stderr: a tree on a terminal, lines elsewhere."""
    console = notes()
    if quiet or not console.is_terminal:
        yield Everyone() if quiet else Lines(fitted)
        return
    tree = Tree(fitted, console)
    with tree.live:
        yield tree
