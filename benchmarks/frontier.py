"""Accuracy against cost: `python benchmarks/frontier.py docs/accuracy_against_cost.svg` draws the plot of README.md.

The cells are those of `results/transfer.jsonl` and `results/comparison.jsonl`: a small VGG on CIFAR-10 at sparsity
0.98, test accuracy after the last epoch, mean and standard deviation over seeds. Cost is counted: the share of one
dense training's multiply-adds that a method spends before the final training, or on top of it.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import altair as alt

from autosparse.html.charts import Plot, colours_of, data_of, plot_of
from autosparse.html.render import svg_of
from autosparse.html.theme import SOFT

RESULTS = Path(__file__).parent / "results"
COSTS = ("0", "5", "10", "25", "50", "100", "150", "600")  # % of the images of one training
LINES = {
    "search, IGQ quotas": {"0": "igq", "50": "search_igq@50", "150": "search_igq@150"},
    "search, learned quotas": {"0": "learned", **{cost: f"learned@{cost}" for cost in COSTS[1:]}},
    "IRP": {"50": "irp@50", "150": "irp@150", "600": "irp"},
    "IGQ, longer training": {"0": "igq", "50": "igq+50", "150": "igq+150"},
}


def cells() -> dict[str, list[float]]:
    """Test accuracies at 0.98 by method, those of the dense network included; a seed counts once."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for file, key in (("comparison.jsonl", "network"), ("transfer.jsonl", "target")):
        for line in (RESULTS / file).read_text(encoding="utf-8").splitlines():
            cell = json.loads(line)
            if cell[key] == "vgg" and cell["sparsity"] in (0.0, 0.98):
                found[cell["method"]].setdefault(cell["seed"], cell["test_accuracy"])
    return {method: [*by_seed.values()] for method, by_seed in found.items()}


def main(plot: str) -> None:
    """Draw the chart and print its points."""
    accuracies = cells()
    rows = []
    for name, methods in LINES.items():
        for cost, method in methods.items():
            values = accuracies[method]
            mean, spread = statistics.fmean(values), statistics.stdev(values)
            rows.append({"series": name, "cost": int(cost) / 100, "mean": mean, "sd": spread, "seeds": len(values)})
            print(f"{name:24} {int(cost) / 100:5.2f} {mean:6.1f} ± {spread:.1f} ({len(values)})")
    dense = statistics.fmean(accuracies["dense"])
    print(f"{'dense':24}       {dense:6.1f}")
    Path(plot).write_text(svg_of(chart(rows, dense).file_spec), encoding="utf-8")


LEAST = 0.05  # costs up to which the axis is linear from an exact 0; above it is logarithmic


def chart(rows: list[dict[str, Any]], dense: float) -> Plot:
    """Return accuracy against cost with bands of ± one standard deviation, and a rule for the dense network."""
    points = [{**row, "low": row["mean"] - row["sd"], "high": row["mean"] + row["sd"]} for row in rows]
    colour, shape = colours_of([*LINES])
    ticks = alt.Axis(values=[int(cost) / 100 for cost in COSTS], labelExpr="format(datum.value, '~g')", grid=False)
    across = alt.Scale(type="symlog", constant=LEAST, domain=[-LEAST / 10, 7.5], nice=False)
    highest = max(dense, *(point["high"] for point in points))
    accuracy = alt.Scale(domain=[min(point["low"] for point in points) - 1, highest + 1], nice=False, zero=False)
    x = alt.X("cost:Q", scale=across, axis=ticks, title="cost of the masks in dense trainings (counted multiply-adds)")
    base = alt.Chart(data_of(points)).encode(x=x, color=colour)
    y = alt.Y("mean:Q", scale=accuracy, title="test accuracy in %")
    reference = alt.Chart(data_of([{"dense": dense, "label": f"dense network, {dense:.1f} %", "cost": 0.0}]))
    level = alt.Y("dense:Q", scale=accuracy)
    layers = alt.layer(
        reference.mark_rule(color=SOFT, strokeDash=[5, 4]).encode(y=level),
        reference.mark_text(align="left", dy=-8, fontSize=12).encode(y=level, x=x, text="label:N"),
        base.mark_area(opacity=0.15).encode(y=alt.Y("low:Q", scale=accuracy), y2="high:Q"),
        base.mark_line(strokeWidth=2.5).encode(y=y),
        base.mark_point(filled=True, size=80, opacity=1).encode(y=y, shape=shape),
    )
    note = "A small VGG on CIFAR-10, 98 % of its weights pruned at initialization; mean ± sd over seeds."
    return plot_of("Accuracy against the cost of the masks", note, layers, 380, [*LINES])


if __name__ == "__main__":
    main(*sys.argv[1:])
