"""Plots of the effort behind a comparison: rounds of IRP, trials of the scorer, time by purpose, steps in time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import altair as alt

from autosparse.html.charts import Plot, colours_of, data_of, plot_of
from autosparse.html.theme import PALETTE, SOFT
from autosparse.planning.model import PURPOSES
from autosparse.report import cells
from autosparse.report.schema import Report
from autosparse.text import seconds

_UNSEEN = 1 / 400  # share of the width: bars that overlap by less count as consecutive


def rounds_plot(report: Report) -> Plot | None:
    """Return validation accuracy in each round of IRP against the weights that it trains."""
    by_source = cells.rounds_by_source(report)
    values = [
        {
            "series": source, "round": item["round"], "left": 100 * trained / item["total"],
            "accuracy": item["validation_accuracy"], "kept": trained,
        }
        for source, rounds in by_source.items()
        for trained, item in _trained(rounds)
        if trained
    ]  # fmt: skip
    if not values:
        return None
    colour, shape = colours_of([*by_source], "source")
    ticks = [float(f"{times * 10.0**power:g}") for power in range(-5, 3) for times in (1, 2, 5)]
    axis = alt.Axis(labelExpr="format(datum.value, '~g')", values=ticks)
    log = alt.Scale(type="log", reverse=True, nice=False, padding=12)
    base = alt.Chart(data_of(values)).encode(
        x=alt.X("left:Q", scale=log, title="weights trained in %", axis=axis),
        y=alt.Y("accuracy:Q", scale=alt.Scale(zero=False, padding=10), title="validation accuracy in %"),
        color=colour,
    )
    tooltip = [
        alt.Tooltip("series:N", title="source"),
        alt.Tooltip("round:Q", title="round"),
        alt.Tooltip("accuracy:Q", title="validation accuracy in %", format=".2f"),
        alt.Tooltip("left:Q", title="weights trained in %", format=".3~g"),
        alt.Tooltip("kept:Q", title="weights trained", format=","),
    ]
    points = base.mark_point(filled=True, size=70, opacity=1).encode(shape=shape, tooltip=tooltip)
    note = "A mark for each round, from the dense network to the sparsest: train, prune, rewind."
    return plot_of("Iterative rewind pruning (IRP)", note, alt.layer(base.mark_line(), points), 260, [*by_source])


def _trained(rounds: Sequence[Mapping[str, Any]]) -> list[tuple[int, Mapping[str, Any]]]:
    # A round trains the weights that the one before keeps; its accuracy is that before it prunes.
    ordered = sorted(rounds, key=lambda item: item["round"])
    return [*zip([ordered[0]["total"], *(item["kept"] for item in ordered)], ordered, strict=False)]


def trials_plot(report: Report) -> Plot | None:
    """Return the objective of every trial of the scorer, and the best so far."""
    numbered = enumerate(report.scorer.get("trials", ()), 1)
    tried = [(number, value) for number, value in numbered if value is not None and math.isfinite(value)]
    if len(tried) < 2:
        return None
    settings = report.scorer.get("settings") or []
    values = [
        {
            "trial": number, "value": value, "best": best,
            "settings": _in_words(settings[number - 1]) if number <= len(settings) else "",
        }
        for (number, value), best in zip(tried, accumulate((value for _, value in tried), max), strict=True)
    ]  # fmt: skip
    scale, title = alt.Scale(zero=False, padding=10), f"objective {report.scorer['objective']}"
    axis = alt.Axis(format="d", tickMinStep=1)
    x = alt.X("trial:Q", title="trial", scale=alt.Scale(nice=False, padding=12), axis=axis)
    base = alt.Chart(data_of(values)).encode(x=x)
    best = base.mark_line(interpolate="step-after", color=SOFT, strokeDash=[5, 4]).encode(
        y=alt.Y("best:Q", scale=scale, title=title)
    )
    points = base.mark_point(filled=True, size=70, opacity=1, color=PALETTE[0]).encode(
        y=alt.Y("value:Q", scale=scale, title=title),
        tooltip=[
            alt.Tooltip("trial:Q"),
            alt.Tooltip("value:Q", title="objective", format=".4f"),
            alt.Tooltip("settings:N"),
        ],
    )
    note = f"Scorer {report.scorer['name']}: a mark for each trial; the dashed line is the best so far."
    return plot_of("Tuning of the scorer", note, alt.layer(best, points), 240)


def _in_words(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in settings.items()
    )


def cost_plot(report: Report) -> Plot | None:
    """Return the compute cost of each purpose."""
    values: list[dict[str, Any]] = [
        {"purpose": title, "seconds": report.cost[name], "text": seconds(report.cost[name])}
        for name, title in PURPOSES.items()
        if report.cost.get(name)
    ]
    if not values:
        return None
    length = alt.Scale(domain=[0, 1.25 * max(value["seconds"] for value in values)], nice=False)
    base = alt.Chart(data_of(values)).encode(
        y=alt.Y("purpose:N", title=None, scale=alt.Scale(domain=[value["purpose"] for value in values])),
        x=alt.X("seconds:Q", title="seconds", scale=length, axis=alt.Axis(tickCount=8)),
        tooltip=[alt.Tooltip("purpose:N"), alt.Tooltip("text:N", title="compute cost")],
    )
    bars = base.mark_bar(color=PALETTE[0], height={"band": 0.7})
    labels = base.mark_text(align="left", dx=6).encode(text="text:N")
    return plot_of("Compute cost by purpose", "Includes cached steps.", alt.layer(bars, labels), 28 * len(values))


def timeline_plot(report: Report) -> Plot | None:
    """Return the steps along time, each in the first lane that is free at its start; parallel lanes overlap in time."""
    steps = sorted((step for step in report.timeline if step.purpose in PURPOSES), key=lambda step: step.begin)
    if not steps:
        return None
    whole, free = max(step.begin + step.seconds for step in steps) or 1.0, list[float]()
    values = []
    for step in steps:
        lane = next((lane for lane, end in enumerate(free) if end <= step.begin + _UNSEEN * whole), len(free))
        free[lane : lane + 1] = [step.begin + step.seconds]
        values.append(
            {
                "lane": lane + 1, "begin": step.begin, "end": step.begin + step.seconds, "step": step.step,
                "text": seconds(step.seconds), "series": PURPOSES[step.purpose],
            }
        )  # fmt: skip
    lanes: Sequence[int] = range(1, len(free) + 1)
    used = {value["series"] for value in values}
    purposes = [title for title in PURPOSES.values() if title in used]
    colour, _ = colours_of(purposes)
    chart = (
        alt.Chart(data_of(values))
        .mark_bar(height={"band": 0.8}, minBandSize=1)
        .encode(
            x=alt.X("begin:Q", title="seconds, without idle time", scale=alt.Scale(domain=[0, whole], nice=False)),
            x2="end:Q",
            y=alt.Y("lane:O", title=None, scale=alt.Scale(domain=[*lanes]), axis=None),
            color=colour,
            tooltip=[
                alt.Tooltip("step:N"),
                alt.Tooltip("series:N", title="purpose"),
                alt.Tooltip("text:N", title="duration"),
            ],
        )
    )
    note = "A bar for each step, of this run and earlier ones; rows run in parallel."
    return plot_of("Steps in time", note, chart, 24 * len(free), purposes)
