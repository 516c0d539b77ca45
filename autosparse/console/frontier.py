"""Accuracy against what masks cost, drawn as bars."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from autosparse.console.screen import plain
from autosparse.report import Report, frontier

_TELLING = 0.1  # trainings: where no mask costs more there is nothing to weigh
_WIDTH = 24
_EIGHTHS = " ▏▎▍▌▋▊▉"


def show_frontier(console: Console, report: Report, budget: str, title: str) -> None:
    """The methods by the cost of their masks, where some of them take training; `title` is what a budget is called."""
    points = frontier(report, budget)
    if len(points) < 2 or points[-1].trainings < _TELLING:
        return
    low, high = min(point.accuracy for point in points), max(point.accuracy for point in points)
    low = max(0.0, low - 0.1 * (high - low))
    scale = f"; bars begin at {low:.0f} %" if low >= 0.5 else ""
    console.print(plain(f"accuracy against cost at {title}; * no cheaper mask is as good{scale}"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(plain("trainings"), justify="right")
    table.add_column(plain("method"), overflow="fold")
    table.add_column(plain("accuracy"), justify="right")
    table.add_column("", no_wrap=True)
    for point in points:
        share = (point.accuracy - low) / (high - low) if high > low else 1.0
        table.add_row(
            plain(f"{point.trainings:.2f}"),
            plain(point.method, "bold" if point.best else ""),
            plain(f"{point.accuracy:.2f}{'*' if point.best else ' '}"),
            plain(_bar(share), "" if point.best else "dim"),
        )
    console.print(table)


def _bar(share: float) -> str:
    eighths = round(8 * _WIDTH * share)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()
