"""Results as tables have them: a row for every method and control, a column for every budget."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autosparse.report.build import Report, Result


@dataclass(frozen=True)
class Row:
    """A method's or control's test accuracies in %: for each column those of its seeds, none where it has no result.

    The dense network has the same in every column. `apart` are those that methods are measured by: the dense network,
    oracles and controls.
    """

    name: str
    cells: Sequence[Sequence[float]]
    control: bool
    apart: bool

    @property
    def told(self) -> str:
        """Its name in a table."""
        return f"control {self.name}" if self.control else self.name


def columns_of(report: Report) -> dict[str, str]:
    """Budgets and their titles, the mildest first; one in MACs has another sparsity for each method."""
    sparsities: dict[str, list[float]] = {}
    for result in report.results:
        if result.method != "dense":
            sparsities.setdefault(result.label, []).append(result.sparsity)
    plain_ones = {str(values[0]): f"sparsity {values[0]:g}" for values in sparsities.values()}
    order = sorted(sparsities, key=lambda label: mean_of(sparsities[label]))
    return {label: plain_ones.get(label, label) for label in order}


def rows_of(report: Report) -> list[Row]:
    """Every method in the order of the results, then every control."""
    return [*_rows(report, report.results), *_rows(report, report.controls, control=True)]


def _rows(report: Report, found: Sequence[Result], *, control: bool = False) -> Iterator[Row]:
    accuracies: dict[str, dict[str, list[float]]] = {}
    for result in found:
        accuracies.setdefault(result.method, {}).setdefault(result.label, []).append(result.test_accuracy)
    for method, own in accuracies.items():
        everywhere = next(iter(own.values())) if method == "dense" and not control else ()
        cells = [own.get(label, everywhere) for label in columns_of(report)]
        yield Row(method, cells, control, control or method == "dense" or method in report.oracles)


def spread_of(values: Sequence[float]) -> str:
    """Mean ± sd of several values, the one, or nothing."""
    if len(values) > 1:
        return f"{mean_of(values):.2f} ± {statistics.stdev(values):.2f}"
    return f"{values[0]:.2f}" if values else ""


def mean_of(values: Sequence[float]) -> float:
    """The mean, which does not depend on the order."""
    return math.fsum(values) / len(values)


def best_of(rows: Sequence[Row], column: int) -> float:
    """The best mean in a column, of all that are not apart; infinite without any."""
    return max((mean_of(row.cells[column]) for row in rows if not row.apart and row.cells[column]), default=math.inf)


def ranked(report: Report, label: str = "") -> list[str]:
    """Methods, the best first, at one budget or, without one, by the mean over all."""
    found: dict[str, list[float]] = {}
    for result in report.results:
        if result.label == label or not label:
            found.setdefault(result.method, []).append(result.test_accuracy)
    return sorted(found, key=lambda method: -mean_of(found[method]))


def own_first(report: Report, label: str) -> list[str]:
    """The method of the spec, then the others at a budget, the best first."""
    return [report.method, *(method for method in ranked(report, label) if method != report.method)]
