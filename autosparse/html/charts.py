"""Plots of the comparison: accuracy of every method, and weights kept per layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from textwrap import wrap
from typing import Any

import altair as alt

from autosparse.html.theme import PALETTE, PAPER, SHADE, SHAPES, SOFT, themed
from autosparse.report import cells
from autosparse.report.finished import LEAST
from autosparse.report.schema import Profile, Report
from autosparse.report.significance import accuracy_interval

WIDTH = 860
Drawing = alt.Chart | alt.LayerChart | alt.FacetChart
_FIT = {"type": "fit-x", "contains": "padding"}
_TALL_FROM = 60  # layers from which rows are narrower
_LONG = 20.0  # points of accuracy above which an axis may leave out outliers
_LABELLED = 0.7  # share of an axis from which labels end at their mark, to stay inside
_LINE = 120  # characters in a line of a note
_COMPARED = 5  # methods whose layers are drawn


@dataclass(frozen=True)
class Plot:
    """Plot with its title and a sentence that explains its marks; `spec` is Vega-Lite, without a title."""

    title: str
    note: str
    spec: Mapping[str, Any]
    entry: int
    """width of an entry of its legend in pixels"""

    @property
    def file_spec(self) -> dict[str, Any]:
        """Specification with paper, title and note, for a file."""
        return {**self.spec, "background": PAPER, "title": {"text": self.title, "subtitle": wrap(self.note, _LINE)}}


def plot_of(title: str, note: str, chart: Drawing, height: int, legend: Sequence[str] = ()) -> Plot:
    """Return a plot in the theme; `height` is in pixels, `legend` has the names of its legend."""
    spec = chart.properties(width=WIDTH, height=height).to_dict()
    entry = 50 + min(240, 7 * max(map(len, legend), default=0))
    return Plot(title, note, {**spec, "autosize": _FIT, "config": themed(WIDTH // entry)}, entry)


def data_of(values: Sequence[Mapping[str, Any]]) -> alt.InlineData:
    """Return rows as data of a plot: names of users are values, never names of fields."""
    return alt.InlineData(values=[dict(value) for value in values])


def colours_of(names: Sequence[str], title: str | None = None) -> tuple[alt.Color, alt.Shape]:
    """Return colour and shape for the values of `series`, with a common legend."""
    legend = alt.Legend(title=title) if len(names) > 1 else None
    domain = list(names)
    colours = [PALETTE[number % len(PALETTE)] for number in range(len(names))]
    shapes = [SHAPES[number % len(SHAPES)] for number in range(len(names))]
    return (
        alt.Color("series:N", scale=alt.Scale(domain=domain, range=colours), legend=legend),
        alt.Shape("series:N", scale=alt.Scale(domain=domain, range=shapes), legend=legend),
    )


def floor_of(values: Sequence[float]) -> float:
    """Return the lower end of an accuracy axis: near the data, above outliers that would squeeze them.

    The lowest values, a third of all at most, are outliers if the axis without them is half as long or shorter. An axis
    of up to twenty points has no outliers.
    """
    ordered, left_out = sorted(values), 0
    high = ordered[-1]
    for count in range(1, len(ordered) // 3 + 1):
        reach = high - ordered[left_out]
        if reach > _LONG and high - ordered[count] <= reach / 2:
            left_out = count
    low = ordered[left_out]
    return max(0.0, low - max(0.05 * (high - low), 0.5))


def accuracy_plot(report: Report) -> Plot | None:
    """Return test accuracies: a row for each method and control, a mark for each budget, a rule for the dense network.

    Values below the axis are arrows at its lower end, with their numbers; so are networks without a result. Labels show
    the statuses of networks.
    """
    columns, rows = cells.columns_of(report), cells.rows_of(report)
    shown = [row for row in rows if row.name != "dense" or row.control]
    points = [point for row in _best_first(shown) for point in _points_of(row, report, columns)]
    measured = [point["mean"] for point in points if point["mean"] is not None]
    if not measured:
        return None
    trained = [point["mean"] for point in points if point["sound"]]
    references = (row for row in rows if row.name == "dense" and any(row.sound[:1]))  # at chance it is none
    dense = next((fmean(row.cells[0]) for row in references), None)
    low = low_end([*trained, *([dense] if dense is not None else [])], report)
    high = min(100.0, max(dense or 0.0, *(point["to"] or 0.0 for point in points)) + 0.5)
    for point in points:
        if point["mean"] is None or point["mean"] < low:
            point |= {"at": low, "label": "" if point["mean"] is None else f"{point['mean']:.1f}", "from": None}
            point["label"] = ", ".join(part for part in (point["label"], point["status"]) if part)
            point["outside"] = True
        elif point["from"] is not None:
            point["from"] = max(low, point["from"])
        point["right"] = point["at"] > low + _LABELLED * (high - low)
    chart = _accuracy_layers(points, [*columns.values()], alt.Scale(domain=[low, high], nice=False, zero=False), dense)
    rule = f" The dashed rule is the dense network ({dense:.1f} %)." if dense is not None else ""
    several = any(len(values) > 1 for row in shown for values in row.cells)
    over = f"{report.test_images or 0:,} test images{' and the seeds' * several}"
    bars = f" Bars are 95 % confidence intervals over {over}."
    cut = any(point["outside"] and point["mean"] is not None for point in points)
    lost = any(point["mean"] is None for point in points)
    kinds = " or ".join(["values below the axis"] * cut + ["networks without a result"] * lost)
    arrows = f" Arrows at the left edge stand for {kinds}." if kinds else ""
    controls = " Controls stand below the methods." if any(row.control for row in shown) else ""
    note = f"A mark for each budget, after the last epoch.{rule}{bars}{arrows}{controls}"
    rows_each = max(1, len(columns))
    height = len({point["row"] for point in points}) * (10 + 12 * rows_each)
    return plot_of("Accuracy", note, chart, height, [*columns.values()])


def low_end(accuracies: Sequence[float], report: Report) -> float:
    """Return the low end of an axis of accuracies above chance, so low that noise is no difference; 0 without any."""
    known = [accuracy for accuracy in accuracies if math.isfinite(accuracy)]
    if not known:
        return 0.0
    low, before = floor_of(known), math.inf
    while low < before:  # a lower end may let in a value with a still lower one
        before = low
        lowest = min(value for value in known if value >= low)
        low = min(low, accuracy_interval(lowest, report.test_images or 0).low)
    return low


def _best_first(rows: Sequence[cells.Row]) -> list[cells.Row]:
    # By the strictest budget with results; controls after all methods.
    def rank(row: cells.Row) -> tuple[bool, list[float]]:
        return row.control, [-fmean(values) if values else math.inf for values in reversed(row.cells)]

    return sorted(rows, key=rank)


def _points_of(row: cells.Row, report: Report, columns: Mapping[str, str]) -> list[dict[str, Any]]:
    points = []
    cells_of = zip(row.cells, row.texts, row.statuses, row.sound, row.intervals, strict=True)
    for title, (values, text, status, sound, interval) in zip(columns.values(), cells_of, strict=True):
        if not values and not status:
            continue
        mean, low, high = (interval.mean, interval.low, interval.high) if interval else (None, None, None)
        points.append(
            {
                "row": row.name, "series": title, "mean": mean, "at": mean, "from": low, "to": high,
                "sound": sound, "interval": f"{low:.1f} to {high:.1f}" if interval else "",
                "label": status, "outside": False, "text": text, "seeds": len(values), "status": status,
                "main": row.name == report.method and not row.control,
            }
        )  # fmt: skip
    return points


def _accuracy_layers(
    points: Sequence[Mapping[str, Any]], budgets: Sequence[str], scale: alt.Scale, dense: float | None
) -> Drawing:
    names = list(dict.fromkeys(point["row"] for point in points))
    y = alt.Y("row:N", scale=alt.Scale(domain=names, paddingInner=0.2), title=None)
    colour, shape = colours_of(budgets)
    tooltip = [
        alt.Tooltip("row:N", title="method"),
        alt.Tooltip("series:N", title="budget"),
        alt.Tooltip("text:N", title="accuracy in %"),
        alt.Tooltip("interval:N", title="95 % interval"),
        alt.Tooltip("seeds:Q", title="seeds"),
    ]
    x = alt.X("at:Q", scale=scale, title="test accuracy in %", axis=alt.Axis(tickCount=8))
    offset = alt.YOffset("series:N", scale=alt.Scale(domain=list(budgets), padding=0))
    main = [{"row": point["row"], "series": title} for point in points if point["main"] for title in budgets]
    inside = alt.Chart(data_of([point for point in points if not point["outside"]])).encode(y=y, yOffset=offset)
    below = alt.Chart(data_of([point for point in points if point["outside"]])).encode(y=y, yOffset=offset, x=x)
    labelled = alt.Chart(data_of([point for point in points if point["label"]])).encode(y=y, yOffset=offset, x=x)
    spread = inside.transform_filter("isValid(datum.from)").mark_rule(strokeWidth=2)
    layers = [
        alt.Chart(data_of(main)).mark_rect(color=SHADE).encode(y=y, yOffset=offset),
        *([dense_rule(dense, horizontal=False, scale=scale)] if dense is not None else []),
        spread.encode(x=alt.X("from:Q", scale=scale), x2="to:Q", color=colour),
        inside.mark_point(filled=True, size=75, opacity=1).encode(x=x, color=colour, shape=shape, tooltip=tooltip),
        below.mark_point(filled=True, size=75, opacity=1, shape="triangle-left").encode(color=colour, tooltip=tooltip),
        labelled.transform_filter("!datum.right").mark_text(align="left", dx=9).encode(text="label:N"),
        labelled.transform_filter("datum.right").mark_text(align="right", dx=-9).encode(text="label:N"),
    ]
    return alt.layer(*layers)


def dense_rule(value: float, *, horizontal: bool, scale: alt.Scale) -> Any:
    """Return a dashed rule at the accuracy of the dense network."""
    rule = alt.Chart(data_of([{"dense": value}])).mark_rule(color=SOFT, strokeDash=[5, 4], strokeWidth=1.5)
    tooltip = alt.Tooltip("dense:Q", title="dense network", format=".2f")
    if horizontal:
        return rule.encode(y=alt.Y("dense:Q", scale=scale), tooltip=tooltip)
    return rule.encode(x=alt.X("dense:Q", scale=scale), tooltip=tooltip)


def layers_plot(report: Report) -> Plot | None:
    """Return the share of each layer's weights that masks keep at the strictest budget, on a logarithmic axis."""
    columns = list(cells.columns_of(report).items())
    if not columns or not report.profiles:
        return None
    label, title = columns[-1]
    by_method = {profile.method: profile for profile in report.profiles if profile.budget == label}
    shown = [by_method[method] for method in _compared(report, label) if method in by_method][:_COMPARED]
    values = [value for profile in shown for value in _shares_of(profile, report.method)]
    if not values:
        return None
    names = list(dict.fromkeys(value["layer"] for value in values))
    low = 10.0 ** math.floor(math.log10(min(value["at"] for value in values)))
    methods = [profile.method for profile in shown]
    colour, shape = colours_of(methods)
    y = alt.Y("layer:N", scale=alt.Scale(domain=names), title=None, axis=alt.Axis(grid=True, labelOverlap=False))
    x = alt.X(
        "at:Q",
        scale=alt.Scale(type="log", domain=[low, 100]),
        title="weights kept in %",
        axis=alt.Axis(labelExpr="format(datum.value, '~g')", values=_decades(low)),
    )
    tooltip = [
        alt.Tooltip("layer:N", title="layer"),
        alt.Tooltip("series:N", title="method"),
        alt.Tooltip("share:Q", title="weights kept in %", format=".3~g"),
        alt.Tooltip("kept:Q", title="kept", format=","),
        alt.Tooltip("size:Q", title="weights", format=","),
        alt.Tooltip("effective:N", title="kept on a path"),
    ]
    base = alt.Chart(data_of(values)).encode(y=y, x=x, color=colour, tooltip=tooltip)
    sizes = alt.condition("datum.main", alt.value(110), alt.value(45))  # methods with equal quotas stay visible
    points = base.mark_point(filled=True, opacity=1).encode(shape=shape, size=sizes)
    lines = base.mark_line(strokeWidth=1, opacity=0.6).encode(order="number:Q", tooltip=alt.value(None))
    note = f"At {title}, seed {shown[0].seed}, from the first layer to the last; empty layers stand at the left edge."
    step = 12 if len(names) > _TALL_FROM else 22
    return plot_of("Weights kept per layer", note, alt.layer(lines, points), step * len(names), methods)


def _decades(low: float) -> list[float]:
    powers = range(round(math.log10(low)), 3)
    few = len(powers) <= 3
    values = (10.0**power * times for power in powers for times in ((1, 2, 5) if few else (1,)))
    return [float(f"{value:g}") for value in values if value <= 100]


def _compared(report: Report, label: str) -> list[str]:
    # The spec's method and oracles, then the best.
    first, *others = cells.method_first(report, label)
    return [first, *sorted(others, key=lambda method: method not in report.oracles)]


def _shares_of(profile: Profile, main: str) -> list[dict[str, Any]]:
    return [
        {
            "layer": layer.name.removesuffix(".weight"), "number": number, "series": profile.method,
            "share": 100 * layer.kept / max(1, layer.size), "at": 100 * max(LEAST, layer.kept / max(1, layer.size)),
            "kept": layer.kept, "size": layer.size,
            "main": profile.method == main,
            "effective": "unknown" if layer.effective is None else f"{layer.effective:,}",
        }
        for number, layer in enumerate(profile.layers)
    ]  # fmt: skip
