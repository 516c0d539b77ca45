"""Plots of the benchmark page as SVG in `docs/plots/`, drawn by Altair (extra `plots`) from rows of results.

Every file starts with a hash of its data, so that a check without Altair finds a plot that is older than its data.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cells import cells, mean_at, of_method
from records import Row, latest, read, select

FOLDER = Path(__file__).parent.parent / "docs" / "plots"
COLOURS = ["#2f81f7", "#d9730d", "#1a9e6e", "#b264c9", "#8a8f98", "#c9a227"]
STYLE = """<style>
@media (prefers-color-scheme: dark) { svg > rect { fill: #14171c; } text { fill: #e8eaee; }
  .role-axis-grid line { stroke: #333a44; } .role-axis-domain line, .role-axis-tick line { stroke: #a2abb8; } }
</style>"""
WIDTH, HEIGHT = 300, 220
NAMES = {"vgg": "VGG", "resnet20": "ResNet-20", "resnet18": "ResNet-18", "vgg16": "VGG-16"}
"""Network -> its name in tables and plots."""


def methods() -> list[Row]:
    """Return test accuracy of every one-shot method, a search and IRP on the VGG at two sparsities."""
    rows = [row for row in cells() if row["network"] == "vgg"]
    names = {row["method"]: row["method"] for row in read("comparison") if row["method"] != "dense"}
    names |= {"search_igq@50": "search, IGQ, 50 %", "irp": "IRP"}
    return [
        {"method": label, "sparsity": str(sparsity), **_interval(of_method(rows, name, sparsity))}
        for sparsity in (0.98, 0.99)
        for name, label in sorted(names.items(), key=lambda pair: -mean_at(rows, pair[0], 0.98))
    ]


def transfer() -> list[Row]:
    """Return test accuracy by sparsity of learned quotas and others, filled at random or searched."""
    names = {
        "learned@50": "search, learned quotas", "search_igq@50": "search, IGQ", "learned": "learned quotas",
        "igq": "IGQ", "erk": "ERK",
    }  # fmt: skip
    return [
        {"network": NAMES[network], "method": label, "sparsity": str(sparsity), **_interval(chosen)}
        for network in ("vgg", "resnet20")
        for method, label in names.items()
        for sparsity in (0.9, 0.95, 0.98, 0.99)
        if (chosen := of_method([row for row in cells() if row["network"] == network], method, sparsity))
    ]


def training() -> list[Row]:
    """Return speed-ups over the standard loop by sparsity, of dense and sparse kernels, one thread."""
    rows = latest(select(read("training"), measure="sparse kernels", threads=1), "network", "sparsity")
    return [
        {"network": NAMES[row["network"]], "sparsity": str(row["sparsity"]), "kernels": kernels, "speedup": speedup}
        for row in rows
        for kernels, speedup in (
            ("dense, bfloat16", round(row["dense_images_per_second"] / row["standard_images_per_second"], 2)),
            ("sparse, float32", row["over_standard"]),
        )
    ]


def prediction() -> list[Row]:
    """Return predicted and actual seconds of every operation, by kind of calibration."""
    return [
        {
            "operation": name, "kind": row["kind"], "predicted": round(step["predicted"], 3),
            "actual": round(step["actual"], 3),
        }
        for row in read("prediction")
        for name, step in row["operations"].items()
        if min(step["predicted"], step["actual"]) > 0.05
    ]  # fmt: skip


def exported() -> list[Row]:
    """Return speed-ups of exported models over dense PyTorch for one image."""
    rows = select(read("emission"), measure="exported model")
    formats = ("compact", "shrunk", "pt2", "onnx", "sparse")
    return [
        {
            "network": NAMES[row["network"]], "masks": {"snip": "SNIP", "learned": "learned quotas"}[row["method"]],
            "format": row["format"], "sparsity": str(row["sparsity"]), "speedup": row["speedup_1"],
        }
        for row in latest(rows, "network", "method", "sparsity", "format")
        if row["format"] in formats and row["speedup_1"] is not None
    ]  # fmt: skip


def scale() -> list[Row]:
    """Return seconds by number of weights, and by number of workers."""
    growth = latest(select(read("growth"), measure="weights"), "series")
    schedule = latest(read("scheduling"), "workers")
    return [
        *(
            {"panel": "weights", "series": row["series"], "size": size, "seconds": seconds}
            for row in growth
            if row["series"] in ("magnitude", "snip", "learned", "synflow, a round")
            for size, seconds in row["points"]
        ),
        *(
            {"panel": "workers", "series": series, "size": row["workers"], "seconds": row[name]}
            for row in schedule
            for series, name in (("schedule", "seconds"), ("lower bound", "tighter_bound_seconds"))
        ),
    ]


PLOTS: dict[str, Callable[[], list[Row]]] = {
    function.__name__: function for function in (methods, transfer, training, prediction, exported, scale)
}
"""Name of the file -> its data."""


def stale(folder: Path = FOLDER) -> list[str]:
    """Return the names of plots whose files are missing or older than their data."""
    names = []
    for name, data in PLOTS.items():
        path = folder / f"{name}.svg"
        if not path.exists() or f"data {_digest(data())}" not in path.read_text(encoding="utf-8")[:200]:
            names.append(name)
    return names


def draw(folder: Path = FOLDER) -> None:
    """Write all plots."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in PLOTS.items():
        rows = data()
        (folder / f"{name}.svg").write_text(_svg(CHARTS[name], rows), encoding="utf-8")


def _digest(rows: list[Row]) -> str:
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16]


def _interval(rows: list[Row]) -> Row:
    values = [row["test_accuracy"] for row in rows]
    mean, spread = statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
    return {"accuracy": round(mean, 2), "low": round(mean - spread, 2), "high": round(mean + spread, 2)}


def _svg(chart: Callable[[Any, Any, list[Row]], Any], rows: list[Row]) -> str:
    import altair
    import vl_convert

    font = "system-ui, -apple-system, Segoe UI, sans-serif"
    figure = chart(altair, altair.Data(values=rows), rows).configure(
        font=font, background="white", range=altair.RangeConfig(category=COLOURS), padding=8
    )
    figure = figure.configure_axis(gridColor="#dfe3e8", labelColor="#1d2129", titleColor="#1d2129", labelLimit=160)
    figure = figure.configure_view(stroke=None).configure_legend(labelColor="#1d2129", titleColor="#1d2129")
    svg = vl_convert.vegalite_to_svg(figure.to_json())
    head = f"<!-- data {_digest(rows)} -->"
    return re.sub(r"(<svg[^>]*>)", lambda hit: f"{hit[1]}{head}{STYLE}", svg, count=1) + "\n"


def _methods(alt: Any, data: Any, rows: list[Row]) -> Any:
    # Collapsed methods stand at the left edge, with their accuracy as text, so that the axis fits the others.
    edge = 38.0
    base = alt.Chart(data).transform_calculate(x=f"max(datum.accuracy, {edge})").encode(
        y=alt.Y("method:N", sort=[*dict.fromkeys(row["method"] for row in rows)], title=None),
        color=alt.Color("sparsity:N", title="sparsity"),
    )  # fmt: skip
    scale, title = alt.Scale(domain=[edge - 1, 75], nice=False, zero=False), "test accuracy in %, VGG"
    at = alt.X("x:Q", title=title, scale=scale)
    inside, collapsed = f"datum.accuracy > {edge}", f"datum.accuracy <= {edge} && datum.sparsity === '0.98'"
    bars = (
        base.transform_filter(inside)
        .mark_rule(strokeWidth=2)
        .encode(x=alt.X("low:Q", title=title, scale=scale), x2="high:Q")
    )
    points = base.transform_filter(inside).mark_point(filled=True, size=60, opacity=1).encode(x=at)
    arrows = base.transform_filter(collapsed).mark_point(shape="triangle-left", filled=True, size=80).encode(x=at)
    notes = base.transform_filter(collapsed).mark_text(align="left", dx=10).encode(
        x=at, text=alt.Text("accuracy:Q", format=".1f"), color=alt.value("#1d2129")
    )  # fmt: skip
    return alt.layer(bars, points, arrows, notes).properties(width=460, height=360)


def _transfer(alt: Any, data: Any, rows: list[Row]) -> Any:
    order = [*dict.fromkeys(row["method"] for row in rows)]
    base = alt.Chart(data).encode(
        x=alt.X("sparsity:O", title="sparsity", axis=alt.Axis(labelAngle=0)),
        color=alt.Color("method:N", title=None, sort=order),
    )
    scale = alt.Scale(zero=False)
    lines = base.mark_line(point=True).encode(y=alt.Y("accuracy:Q", title="test accuracy in %", scale=scale))
    bars = base.mark_rule().encode(y=alt.Y("low:Q", title="test accuracy in %"), y2="high:Q")
    return _facets(alt, alt.layer(bars, lines), rows, "network")


def _training(alt: Any, data: Any, rows: list[Row]) -> Any:
    bars = alt.Chart(data).mark_bar().encode(
        x=alt.X("sparsity:O", title="sparsity", axis=alt.Axis(labelAngle=0)), xOffset="kernels:N",
        y=alt.Y("speedup:Q", title="speed-up over a standard loop"), color=alt.Color("kernels:N", title="kernels"),
    )  # fmt: skip
    return _facets(alt, bars, rows, "network")


def _prediction(alt: Any, data: Any, rows: list[Row]) -> Any:
    seconds = [row[name] for row in rows for name in ("actual", "predicted")]
    ends = [min(seconds) / 1.3, max(seconds) * 1.3]
    scale, axis = alt.Scale(type="log", domain=ends, nice=False), alt.Axis(values=[0.1, 1, 10, 100])
    points = alt.Chart(data).mark_point(filled=True, size=45, opacity=0.9).encode(
        x=alt.X("actual:Q", title="actual seconds of an operation", scale=scale, axis=axis),
        y=alt.Y("predicted:Q", title="predicted seconds", scale=scale, axis=axis),
        color=alt.Color("kind:N", title=None), shape=alt.Shape("kind:N", title=None),
    )  # fmt: skip
    diagonal = alt.Data(values=[{"actual": end, "predicted": end} for end in ends])
    exact = alt.Chart(diagonal).mark_line(strokeDash=[5, 4], color=COLOURS[4]).encode(x="actual:Q", y="predicted:Q")
    return alt.layer(exact, points).properties(width=380, height=300)


def _exported(alt: Any, data: Any, rows: list[Row]) -> Any:
    base = alt.Chart(data).encode(y=alt.Y("format:N", title=None, sort=[*dict.fromkeys(r["format"] for r in rows)]))
    scale = alt.Scale(domain=[0, math.ceil(2 * max(row["speedup"] for row in rows)) / 2])
    bars = base.mark_bar().encode(
        x=alt.X("speedup:Q", title="speed-up over dense PyTorch, one image", scale=scale), yOffset="sparsity:N",
        color=alt.Color("sparsity:N", title="sparsity"),
    )  # fmt: skip
    panels = [
        _facets(alt, bars.transform_filter(f"datum.masks === '{masks}'"), rows, "network", f", {masks}", 180)
        for masks in dict.fromkeys(row["masks"] for row in rows)
    ]
    return alt.vconcat(*panels)


def _scale(alt: Any, data: Any, rows: list[Row]) -> Any:
    axes = {
        "weights": ("weights, one thread", [10**power for power in (6, 7, 8)], [0.01, 0.1, 1, 10, 100]),
        "workers": ("workers, a plan of two thousand steps", [4**power for power in range(5)], [100, 300, 1000, 3000]),
    }
    panels = []
    for panel, (title, sizes, seconds) in axes.items():
        order = [*dict.fromkeys(row["series"] for row in rows if row["panel"] == panel)]
        log = alt.Scale(type="log", nice=False, padding=6)
        colour = alt.Color("series:N", title=None, sort=order, legend=alt.Legend(orient="top", columns=2))
        dashes = alt.condition("datum.series === 'lower bound'", alt.value([6, 5]), alt.value([1, 0]))
        panels.append(
            alt.Chart(data).transform_filter(f"datum.panel === '{panel}'").mark_line(point=True).encode(
                x=alt.X("size:Q", title=title, scale=log, axis=alt.Axis(values=sizes, format="~s")),
                y=alt.Y("seconds:Q", title="seconds", scale=log, axis=alt.Axis(values=seconds)),
                color=colour, strokeDash=dashes,
            ).properties(width=WIDTH, height=HEIGHT)
        )  # fmt: skip
    return alt.hconcat(*panels).resolve_scale(color="independent")


def _facets(alt: Any, chart: Any, rows: list[Row], field: str, more: str = "", height: int = HEIGHT) -> Any:
    values = dict.fromkeys(row[field] for row in rows)
    width = WIDTH if len(values) == 2 else 2 * WIDTH // len(values)
    panels = [
        chart.transform_filter(f"datum.{field} === '{value}'").properties(
            width=width, height=height, title=f"{value}{more}"
        )
        for value in values
    ]
    return alt.hconcat(*panels).resolve_scale(y="shared")


CHARTS = {"methods": _methods, "transfer": _transfer, "training": _training, "prediction": _prediction,
          "exported": _exported, "scale": _scale}  # fmt: skip
