"""Results as tables have them: a column for every budget, a cell for every method in it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from autosparse.report import Report, Result


def columns_of(found: Sequence[Result]) -> dict[str, str]:
    """Budgets and their titles, the mildest first; one in MACs has another sparsity for each method."""
    sparsities: dict[str, list[float]] = {}
    for result in found:
        if result.method != "dense":
            sparsities.setdefault(result.label, []).append(result.sparsity)
    plain_ones = {str(values[0]): f"sparsity {values[0]:g}" for values in sparsities.values()}
    order = sorted(sparsities, key=lambda label: mean_of(sparsities[label]))
    return {label: plain_ones.get(label, label) for label in order}


def cells_of(found: Sequence[Result]) -> dict[tuple[str, str], list[float]]:
    """Method and budget -> test accuracies, one a seed."""
    cells: dict[tuple[str, str], list[float]] = {}
    for result in found:
        cells.setdefault((result.method, result.label), []).append(result.test_accuracy)
    return cells


def spread_of(values: Sequence[float]) -> str:
    """Mean ± sd of several values, or the one."""
    return f"{mean_of(values):.2f} ± {statistics.stdev(values):.2f}" if len(values) > 1 else f"{values[0]:.2f}"


def mean_of(values: Sequence[float]) -> float:
    """The mean, which does not depend on the order."""
    return math.fsum(values) / len(values)


def ranked(report: Report, label: str) -> list[str]:
    """Methods, the best first, at one budget or, without one, by the mean over all."""
    found: dict[str, list[float]] = {}
    for result in report.results:
        if result.label == label or not label:
            found.setdefault(result.method, []).append(result.test_accuracy)
    return sorted(found, key=lambda method: -mean_of(found[method]))
