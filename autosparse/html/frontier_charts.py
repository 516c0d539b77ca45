"""Plots of accuracy against total cost: in counted dense trainings, and in seconds on the machine of the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import altair as alt

from autosparse.html.charts import Drawing, Plot, data_of, dense_rule, low_end, plot_of
from autosparse.html.theme import PALETTE, PAPER, SOFT
from autosparse.report import cells
from autosparse.report.cells import Point
from autosparse.report.schema import Report
from autosparse.report.significance import mean_interval

_HEIGHT = 340
_MARK, _LABEL = 10.0, 15.0  # pixels from a mark to a label, and from one label to the next
_MARGIN, _ROOM = 0.05, 0.1  # shares of the axis left of the lowest cost, and right of the highest
_FINE = (1.0, 1.05, 1.1, 1.2, 1.4, 1.6, 1.8)


@dataclass(frozen=True)
class CostAxis:
    """Logarithmic axis from the lowest cost `least` to the highest `most`, with a margin on both sides."""

    least: float
    most: float

    @classmethod
    def of(cls, costs: Sequence[float]) -> CostAxis:
        """Return the axis of these costs; one of 0 stands at a thousandth of the highest."""
        most = max(costs, default=0.0) or 1.0
        return cls(max(min(costs, default=most), most / 1000), most)

    def shown(self, cost: float) -> float:
        """Return the cost at which a mark stands: a cost of 0 has no logarithm."""
        return max(cost, self.least)

    def at(self, cost: float) -> float:
        """Return the share of the axis left of a cost."""
        low, high = map(math.log, self._ends)
        return (math.log(self.shown(cost)) - low) / (high - low)

    @property
    def scale(self) -> alt.Scale:
        """Scale of the axis, with room for marks at both ends."""
        return alt.Scale(type="log", domain=[*self._ends], nice=False)

    @property
    def ticks(self) -> list[float]:
        """Round costs inside the axis: the fewer decades it has, the finer."""
        low, high = self._ends
        times = next(times for reach, times in _TICKS if high / low >= reach)
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        values = sorted({float(f"{factor * 10.0**power:g}") for power in powers for factor in times})
        return [value for value in values if low <= value <= high]

    @property
    def _ends(self) -> tuple[float, float]:
        whole = max(math.log(self.most / self.least), _SPAN)
        return self.least * math.exp(-_MARGIN * whole), self.least * math.exp((1 + _ROOM) * whole)


_SPAN = 0.1  # logarithm of the least ratio of the axis' ends
_TICKS = ((100.0, (1.0,)), (10.0, (1.0, 3.0)), (3.0, (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)), (0.0, (*_FINE, 2.0, 3.0, 5.0)))
"""(Ratio of the ends of an axis from which on, factors of the powers of ten that are its ticks)"""


def frontier_plot(report: Report) -> Plot | None:
    """Return test accuracy against the counted cost of mask and training at the strictest budget.

    A line joins the best methods at each cost.
    """
    title, note = "Accuracy against cost", "The line joins the methods that no cheaper one matches (Pareto-optimal)."
    return _plot(
        report, title, note, "mask and training in dense trainings", lambda point: point.trainings, joined=True
    )


def seconds_plot(report: Report) -> Plot | None:
    """Return test accuracy against measured seconds of mask and training at the strictest budget.

    Seconds are another plot, not a second axis: they are not proportional to counted work.
    """
    title, note = "Accuracy against time", "Seconds depend on the machine and its load; IRP includes its rounds."
    return _plot(report, title, note, "mask and training in seconds", lambda point: point.seconds, joined=False)


def _plot(
    report: Report, title: str, note: str, axis: str, cost: Callable[[Point], float], *, joined: bool
) -> Plot | None:
    columns = list(cells.columns_of(report).items())
    points = cells.frontier(report, columns[-1][0]) if columns else []
    if len(points) < 2:
        return None
    accuracies = cells.by_cell(report.results)
    spans = {
        point.method: mean_interval([*accuracies[point.method, columns[-1][0]].values()], report.test_images or 0)
        for point in points
    }
    trained = [one for one in report.results if one.method == "dense" and one.status == cells.TRAINED]
    dense = [one.test_accuracy for one in trained]
    lengths = [point.accuracy for point in cells.reference_points(report)]
    reach = [*(point.accuracy for point in points), *([fmean(dense)] if dense else []), *lengths]
    low = low_end(reach, report)
    top = max(*reach, *(span.high for span in spans.values()))
    high = top + max(0.08 * (top - low), 0.5)
    curve = cells.reference_points(report)
    across = CostAxis.of([cost(point) for point in (*points, *curve)])
    values: list[dict[str, Any]] = [
        {
            "name": point.method, "cost": across.shown(cost(point)), "trainings": point.trainings, "mask": point.mask,
            "seconds": point.seconds, "accuracy": point.accuracy, "at": max(low, point.accuracy), "best": point.best,
            "from": max(low, spans[point.method].low) if point.accuracy >= low else None,
            "to": spans[point.method].high, "below": point.accuracy < low, "main": point.method == report.method,
            "label": point.method + (f" ({point.accuracy:.1f})" if point.accuracy < low else ""),
        }
        for point in points
    ]  # fmt: skip
    _set_labels(values, low, high, across)
    y = alt.Scale(domain=[low, high], nice=False, zero=False)
    labels = alt.Axis(labelExpr="format(datum.value, '~g')", values=across.ticks, grid=False)
    x = alt.X("cost:Q", scale=across.scale, axis=labels, title=axis)
    chart = _layers(values, x, y, fmean(dense) if dense else None, joined=joined)
    if curve:
        chart = alt.layer(_reference_curve(curve, cost, across, low, x, y), chart)
    rule = f" The dashed rule is the dense network ({fmean(dense):.1f} %)." if dense else ""
    rule += " The dotted line joins dense networks, trained for several lengths." if curve else ""
    lost = cells.untrained(report, columns[-1][0])
    left_out = f" Left out, not above chance: {', '.join(lost)}." if lost else ""
    return plot_of(title, f"At {columns[-1][1]}. {note}{rule} Bars are 95 % intervals.{left_out}", chart, _HEIGHT)


def _reference_curve(
    points: Sequence[Point], cost: Callable[[Point], float], axis: CostAxis, low: float, x: alt.X, y: alt.Scale
) -> Drawing:
    values = [
        {"name": point.method, "cost": axis.shown(cost(point)), "at": max(low, point.accuracy), "exact": point.accuracy}
        for point in points
    ]
    tooltip = [alt.Tooltip("name:N", title="network"), alt.Tooltip("exact:Q", title="accuracy in %", format=".2f")]
    base = alt.Chart(data_of(values)).encode(x=x, y=alt.Y("at:Q", scale=y), tooltip=tooltip)
    line = base.mark_line(color=SOFT, strokeWidth=1.5, strokeDash=[2, 3])
    return alt.layer(line, base.mark_point(color=SOFT, size=50, shape="diamond", filled=True, opacity=1))


def _set_labels(values: Sequence[dict[str, Any]], low: float, high: float, axis: CostAxis) -> None:
    # A label stands above its mark, and higher where it would cover another, also in a narrow window; labels of the
    # right half end at their mark.
    pixels = _HEIGHT / ((high - low) or 1.0)
    across = [axis.at(value["cost"]) for value in values]
    heights = [(value["at"] - low) * pixels for value in values]
    used = [(x - 0.02, x + 0.02, y, _MARK) for x, y in zip(across, heights, strict=True)]  # begin, end, centre, room
    for value, x, height in sorted(zip(values, across, heights, strict=True), key=lambda one: one[2]):
        wide = len(value["label"]) * 7 / 260  # share of a narrow window
        value["right"] = x > 0.5
        begin, end = (x - wide, x) if value["right"] else (x, x + wide)
        y = height + _MARK
        for other_begin, other_end, other_y, room in sorted(used, key=lambda one: one[2]):
            if begin < other_end and other_begin < end and abs(y - other_y) < room:
                y = other_y + room
        used.append((begin, end, y, _LABEL))
        value["label_at"] = low + y / pixels


def _layers(
    values: Sequence[Mapping[str, Any]], x: alt.X, scale: alt.Scale, dense: float | None, *, joined: bool
) -> Drawing:
    y = alt.Y("at:Q", scale=scale, title="test accuracy in %")
    tooltip = [
        alt.Tooltip("name:N", title="method"),
        alt.Tooltip("accuracy:Q", title="accuracy in %", format=".2f"),
        alt.Tooltip("trainings:Q", title="mask and training in dense trainings", format=".3~g"),
        alt.Tooltip("mask:Q", title="mask alone", format=".3~g"),
        alt.Tooltip("seconds:Q", title="mask and training in seconds", format=".3~g"),
    ]
    colour = alt.condition("datum.main", alt.value(PALETTE[0]), alt.value(SOFT))
    base = alt.Chart(data_of(values)).encode(x=x)
    at_label = base.encode(y=alt.Y("label_at:Q", scale=scale), text="label:N", color=colour, tooltip=tooltip)
    above, below = base.transform_filter("!datum.below"), base.transform_filter("datum.below")
    line = base.transform_filter("datum.best").mark_line(interpolate="step-after", color=SOFT, strokeWidth=1)
    return alt.layer(
        *([dense_rule(dense, horizontal=True, scale=scale)] if dense is not None else []),
        *([line.encode(y=y)] if joined else []),
        above.mark_rule(strokeWidth=1.5, opacity=0.6).encode(y=alt.Y("from:Q", scale=scale), y2="to:Q", color=colour),
        above.mark_point(filled=True, size=90, opacity=1, stroke=PAPER).encode(y=y, color=colour, tooltip=tooltip),
        below.mark_point(filled=True, size=90, opacity=1, shape="triangle-down").encode(
            y=y, color=colour, tooltip=tooltip
        ),
        at_label.transform_filter("!datum.right").mark_text(align="left", dx=2),
        at_label.transform_filter("datum.right").mark_text(align="right", dx=-2),
    )
