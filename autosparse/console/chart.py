"""Charts on a terminal: accuracy against budgets and cost, and kept weights by layer."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from statistics import fmean

from rich.console import Console
from rich.text import Text

from autosparse.console.format import FIXED, bar, plain, show_table
from autosparse.report.cells import columns_of, frontier, is_accuracy, ranked, reference_points, rows_of, untrained
from autosparse.report.finished import LEAST
from autosparse.report.schema import LayerShare, Profile, Report
from autosparse.report.significance import counting_noise
from autosparse.text import number, seconds, trainings

_MARKS = {"●": "bold", "○": "cyan", "×": "yellow"}
_BETWEEN = "∙"
_HIGH, _WIDE = 9, 56
_LEAST = 3  # budgets: a table shows two points more clearly


def show_chart(console: Console, report: Report) -> None:
    """Show the spec's method, the oracle and the best other method by budget, for three or more budgets."""
    columns = columns_of(report)
    rows = {row.name: row.cells for row in rows_of(report) if not row.control and any(row.sound)}
    others = [name for name in ranked(report) if name in rows and name not in (report.method, "dense", *report.oracles)]
    shown = [name for name in (report.method, *report.oracles[:1], *others[:1]) if _is_drawn(rows.get(name, [[]]))]
    if len(columns) < _LEAST or report.method not in shown:
        return
    series = {mark: [fmean(values) for values in rows[name]] for mark, name in zip(_MARKS, shown, strict=False)}
    names = [title.removeprefix("sparsity ") for title in columns.values()]
    console.print(plain("test accuracy in % by budget"))
    middle = fmean(value for values in series.values() for value in values)
    least = max(1.0, 2 * counting_noise(middle, report.test_images or 0))
    for line in _lines(series, names, min(_WIDE, console.width - 10), min(100.0, least)):
        console.print(line)
    legend = [Text.assemble((mark, _MARKS[mark]), f" {plain(name)}") for mark, name in zip(_MARKS, shown, strict=False)]
    console.print(Text("   ").join(legend))
    console.print()


def _is_drawn(cells: Sequence[Sequence[float]]) -> bool:
    return all(values and all(map(is_accuracy, values)) for values in cells)


def _lines(series: Mapping[str, Sequence[float]], names: Sequence[str], width: int, least: float) -> list[Text]:
    values = [value for one in series.values() for value in one]
    low, high = min(values), max(values)
    if high - low < least:  # a difference within the noise is no slope
        low = max(0.0, min((low + high - least) / 2, 100 - least))
        high = low + least
    span = high - low
    step = (width - 1) / (len(names) - 1)
    positions = [round(number * step) for number in range(len(names))]

    def row(value: float) -> int:
        return round((high - value) / span * (_HIGH - 1))

    cells: dict[tuple[int, int], tuple[str, str]] = {}
    for mark, one in reversed([*series.items()]):  # the first series is drawn on top
        for (left, before), (right, after) in pairwise(zip(positions, one, strict=True)):
            for x in range(left + 1, right):
                value = before + (after - before) * (x - left) / (right - left)
                cells[row(value), x] = _BETWEEN, _MARKS[mark]
    for mark, one in reversed([*series.items()]):
        for x, value in zip(positions, one, strict=True):
            cells[row(value), x] = mark, _MARKS[mark]
    lines = []
    for y in range(_HIGH):
        label = f"{high - span * y / (_HIGH - 1):6.1f}" if y % 4 == 0 else " " * 6
        drawn = [cells.get((y, x), (" ", "")) for x in range(width)]
        lines.append(Text.assemble((f"{label} │", "dim"), *drawn))
    return [*lines, _axis(positions, names, width)]


def _axis(positions: Sequence[int], names: Sequence[str], width: int) -> Text:
    line, free = "", 0
    for position, name in zip(positions, names, strict=True):
        start = min(max(position - len(name) // 2, 0), max(0, width - len(name)))
        if start >= free:  # skip a name that would touch the previous one
            line = line.ljust(start) + name
            free = len(line) + 1
    return Text(" " * 8 + line, style="dim")


_TELLING = 0.1  # dense trainings: below this difference of all costs the chart is omitted
_WIDTH = 24
_EIGHTHS = " ▏▎▍▌▋▊▉"


def show_frontier(console: Console, report: Report, budget: str, title: str, methods: Collection[str]) -> None:
    """Show methods by total cost, if their costs differ by a noticeable share of a training; `title` names the budget.

    Only `methods` are shown; all are compared.
    """
    points = frontier(report, budget)
    if len(points) < 2 or points[-1].trainings - points[0].trainings < _TELLING:
        return
    console.print(
        plain(f"accuracy against the cost of mask and training at {title}; * no cheaper method is as accurate")
    )
    rows = []
    for point in sorted([*points, *reference_points(report)], key=lambda point: point.trainings):
        if point.method in methods or point.is_reference:
            name = plain(point.method, "bold" if point.best else "")
            accuracy = f"{point.accuracy:.2f}{'*' if point.best else ' '}"
            drawn = plain(_bar(point.accuracy / 100), "" if point.best else "dim")
            rows.append((name, trainings(point.trainings), seconds(point.seconds), accuracy, drawn))
    columns = ("method", "dense trainings", "time", "accuracy", "")
    show_table(columns, rows, numbers=3, optional=(4, 2), console=console)
    if lost := untrained(report, budget):
        console.print(plain(f"{', '.join(lost)}: left out, not above chance", "dim"))
        console.print()


def _bar(share: float) -> str:
    eighths = round(8 * _WIDTH * share)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


_LAYER_WIDTH = 8  # columns of a bar
_NARROW = 100  # columns: below this two methods fit, else three


def show_profiles(console: Console, profiles: Sequence[Profile], order: Sequence[str], title: str) -> None:
    """Show the kept share of each layer at one budget, for the first methods of `order`; `title` names the budget."""
    by_method = {profile.method: profile for profile in profiles}
    beside = 2 if console.width < _NARROW else 3
    shown = [by_method[method] for method in order if method in by_method][:beside]
    if not shown:
        return
    cut = any(_is_cut(layer) for profile in shown for layer in profile.layers)
    stroke = " / on a path" if cut else ""
    console.print(plain(f"kept weights{stroke} of each layer in % at {title}, seed {shown[0].seed}"))
    rows = [
        (first.name.removesuffix(".weight"), number(first.size), *map(_layer_cell, (first, *others)))
        for first, *others in zip(*(profile.layers for profile in shown), strict=True)
    ]
    show_table(
        ("layer", "weights", *(profile.method for profile in shown)),
        rows,
        numbers=1,
        optional=(*range(1 + len(shown), 2, -1), 1),
        console=console,
    )
    console.print(plain("logarithmic bars, from 0.1 % or less to all", "dim"))


def _is_cut(layer: LayerShare) -> bool:
    return layer.effective is not None and layer.effective < layer.kept


def _layer_cell(layer: LayerShare) -> str:
    shares = [layer.kept, *([layer.effective] if _is_cut(layer) and layer.effective is not None else [])]
    percentages = "/".join(f"{100 * share / max(1, layer.size):.3g}" for share in shares)
    logarithm = math.log(max(LEAST, layer.kept / max(1, layer.size)))
    return f"{bar(1 - logarithm / math.log(LEAST), _LAYER_WIDTH)}{FIXED}{percentages}"
