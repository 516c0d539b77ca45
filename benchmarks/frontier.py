"""Accuracy against cost: `python benchmarks/frontier.py docs/accuracy_against_cost.svg` draws the plot of README.md.

The cells are those of `results/transfer.jsonl` and `results/comparison.jsonl`: a small VGG on CIFAR-10 at sparsity
0.98, test accuracy after the last epoch, mean and standard deviation over seeds. Cost is the share of one dense
training that a method spends before the final training, or on top of it.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from autosparse.html.svg import Series, line_chart, standalone

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
    series = []
    for number, (name, methods) in enumerate(LINES.items()):
        points, spread = [], []
        for cost, method in methods.items():
            values = accuracies[method]
            points.append((float(COSTS.index(cost)), statistics.fmean(values)))
            spread.append(statistics.stdev(values))
            print(f"{name:24} {int(cost) / 100:5.2f} {points[-1][1]:6.1f} ± {spread[-1]:.1f} ({len(values)})")
        series.append(Series(name, points, spread, main=number == 0))
    dense = statistics.fmean(accuracies["dense"])
    print(f"{'dense':24}       {dense:6.1f}")
    series.append(Series("dense network", [(0.0, dense), (len(COSTS) - 1.0, dense)], apart=True))
    names = [f"{int(cost) / 100:g}" for cost in COSTS]
    chart = line_chart(
        "test accuracy in %, a small VGG at sparsity 0.98", "dense trainings spent on it", "%", series, names
    )
    Path(plot).write_text(standalone(chart), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
