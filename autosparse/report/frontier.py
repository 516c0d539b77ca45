"""Accuracy against cost: what masks that take training bring, against those that are made at once."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from autosparse.report.build import Report


@dataclass(frozen=True)
class Point:
    """One method within a budget: what its masks cost, in trainings of the network, and the test accuracy in percent.

    Both are means over seeds. `best` says that no method whose masks cost no more is as accurate.
    """

    method: str
    trainings: float
    accuracy: float
    best: bool


def frontier(report: Report, budget: str) -> list[Point]:
    """The methods of a report within one budget, the cheapest first; those whose masks were not timed are left out.

    Costs are compared as they are told, in hundredths of a training: below that they are noise.
    """
    costs = {
        cost.method: round(cost.trainings, 2)
        for cost in report.mask_costs
        if cost.budget == budget and cost.trainings is not None
    }
    found: dict[str, list[float]] = {method: [] for method in costs}
    for result in report.results:
        if result.label == budget and result.method in found:
            found[result.method].append(result.test_accuracy)
    means = {method: statistics.fmean(values) for method, values in found.items() if values}
    order = sorted(means, key=lambda method: (costs[method], -means[method]))
    points: list[Point] = []
    for method in order:
        best = all(point.accuracy < means[method] for point in points)
        points.append(Point(method, costs[method], means[method], best))
    return points
