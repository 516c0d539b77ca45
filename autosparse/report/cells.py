"""Results as a table (also CSV and Markdown): a row for each method and control, a column for each budget."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from autosparse.report.schema import Missing, Report, Result
from autosparse.report.significance import Interval, accuracy_interval, mean_interval
from autosparse.steps.latency import LatencyCheck
from autosparse.text import finite, markdown, plural, table, visible

TRAINED = "trained"
USELESS = ("collapsed", "at chance")
"""statuses of trained networks that have learned nothing"""


@dataclass(frozen=True)
class Row:
    """Test accuracies of a method or control in %: those of its seeds by column; the dense network's in every column.

    `apart` marks the references: the dense network, oracles and controls. `statuses` count the seeds of each column
    that failed, diverged, collapsed or are at chance: one word if all of them did alike.
    """

    name: str
    cells: Sequence[Sequence[float]]
    control: bool
    apart: bool
    statuses: Sequence[str]
    sound: Sequence[bool]
    """whether some network of a column is neither collapsed nor at chance"""
    intervals: Sequence[Interval | None]
    """means and their 95 % confidence intervals"""

    @property
    def title(self) -> str:
        """Name of the row in a table."""
        return f"control {self.name}" if self.control else self.name

    @property
    def texts(self) -> list[str]:
        """Texts of the cells: mean ± sd over the seeds with a result, and the statuses."""
        pairs = zip(map(spread_of, self.cells), self.statuses, strict=True)
        return [joined(accuracy, status) for accuracy, status in pairs]


def joined(accuracy: str, status: str) -> str:
    """Return an accuracy with the statuses of its seeds: `71.20, 1 diverged`, `10.00 at chance`, `diverged`."""
    separator = ", " if status[:1].isdigit() else " "
    return f"{accuracy}{separator}{status}" if accuracy and status else accuracy or status


def columns_of(report: Report) -> dict[str, str]:
    """Return budgets and their titles, the mildest first; a budget in MACs has another sparsity for each method.

    A report of the dense network alone has one column, its own.
    """
    sparsities: dict[str, list[float]] = {}
    alone = {result.method for result in report.results} | {one.method for one in report.missing} == {"dense"}
    for result in report.results:
        if result.method != "dense" or alone:
            sparsities.setdefault(result.budget, []).append(result.sparsity)
    for one in report.missing:
        if one.method != "dense" or alone:
            known = sparsities.setdefault(one.budget, [])
            known += [one.sparsity] if one.sparsity is not None and not known else []
    plain_ones = {str(values[0]): f"sparsity {values[0]:g}" for values in sparsities.values() if values}
    order = sorted(sparsities, key=lambda label: fmean(sparsities[label]) if sparsities[label] else math.inf)
    return {label: plain_ones.get(label, label) for label in order}


def only(report: Report, methods: Collection[str]) -> Report:
    """Return the report of these methods, or of all without any; its warnings stay those of the whole run."""
    if not methods:
        return report
    sections = ("results", "mask_costs", "profiles", "sanity", "emitted", "recipes")
    kept: dict[str, Any] = {name: [one for one in getattr(report, name) if one.method in methods] for name in sections}
    return replace(
        report,
        **kept,
        controls=[control for control in report.controls if control.method.rpartition(".")[0] in methods],
        verdicts=report.verdicts if report.method in methods else (),
        missing=[m for m in report.missing if (m.method.rpartition(".")[0] if m.control else m.method) in methods],
    )


def rows_of(report: Report) -> list[Row]:
    """Return the rows of all methods in the order of the results, then of all controls."""
    return [*_rows(report, control=False), *_rows(report, control=True)]


def _rows(report: Report, *, control: bool) -> Iterator[Row]:
    results, columns = report.controls if control else report.results, columns_of(report)
    accuracies, states = by_cell(results), statuses_by_cell(results)
    missing = [one for one in report.missing if one.control == control]
    for method in dict.fromkeys([*(method for method, _ in accuracies), *(one.method for one in missing)]):
        is_dense = method == "dense" and not control  # trained once for all columns
        known = next((cell for cell in accuracies if cell[0] == method), (method, ""))
        at = [known if is_dense else (method, label) for label in columns]
        cells = [[*accuracies.get(cell, {}).values()] for cell in at]
        lost = [one for one in missing if one.method == method]
        statuses = [
            counted([*states.get(cell, ()), *(one.status for one in lost if is_dense or one.budget == label)])
            for label, cell in zip(columns, at, strict=True)
        ]
        sound = [TRAINED in states.get(cell, ()) for cell in at]
        intervals = [mean_interval(values, report.test_images or 0) if values else None for values in cells]
        apart = control or method == "dense" or method in report.oracles
        yield Row(method, cells, control, apart, statuses, sound, intervals)


def by_cell(results: Iterable[Result], split: str = "test_accuracy") -> dict[tuple[str, str], dict[int, float]]:
    """Return the accuracies of networks in percent: (method, budget) -> seed -> accuracy."""
    cells: dict[tuple[str, str], dict[int, float]] = {}
    for result in results:
        cells.setdefault((result.method, result.budget), {})[result.seed] = getattr(result, split)
    return cells


def statuses_by_cell(results: Iterable[Result]) -> dict[tuple[str, str], list[str]]:
    """Return the statuses of networks: (method, budget) -> one for each seed."""
    cells: dict[tuple[str, str], list[str]] = {}
    for result in results:
        cells.setdefault((result.method, result.budget), []).append(result.status)
    return cells


def counted(statuses: Sequence[str]) -> str:
    """Count the statuses of seeds, without `trained` ones: `1 diverged, 2 failed`, or `diverged` if all are alike."""
    numbers = Counter(statuses)
    if len(numbers) == 1:
        return statuses[0] if statuses[0] != TRAINED else ""
    return ", ".join(f"{number} {status}" for status, number in numbers.items() if status != TRAINED)


def missing_by_cell(missing: Iterable[Missing]) -> dict[tuple[str, str], list[Missing]]:
    """Return the missing networks by method and budget, in order."""
    cells: dict[tuple[str, str], list[Missing]] = {}
    for one in missing:
        cells.setdefault((one.method, one.budget), []).append(one)
    return cells


def spread_of(values: Sequence[float]) -> str:
    """Return mean ± sd of several values, the value of one, or an empty text."""
    if len(values) > 1 and all(map(math.isfinite, values)):
        return f"{fmean(values):.2f} ± {stdev(values):.2f}"
    return f"{fmean(values):.2f}" if values else ""


def best_of(rows: Sequence[Row], column: int) -> float:
    """Return the best mean in a column, of all rows that are not apart and above chance; infinity without any."""
    means = (fmean(row.cells[column]) for row in rows if not row.apart and row.cells[column] and row.sound[column])
    return max(means, default=math.inf)


def counted_interval(report: Report) -> str:
    """Return the 95 % interval of the best network at the strictest budget in words; empty without a trained one."""
    columns, rows = columns_of(report), rows_of(report)
    best = best_of(rows, len(columns) - 1) if columns else math.inf
    if not math.isfinite(best) or not report.test_images:
        return ""
    interval = accuracy_interval(best, report.test_images)
    counted = plural(report.test_images, "test image")
    ends = f"{interval.low:.1f} to {interval.high:.1f}"
    return f"best at the strictest budget: {best:.1f} %, 95 % interval {ends} ({counted})"


def limits_in_words(report: Report) -> str:
    """Return the maximum of budgets relative to the dense network, and checks of latencies; empty without any."""
    limits = [f"{label}: at most {limit:,}" for label, limit in report.limits.items()]
    checks = [latency_in_words(check) for check in report.latencies if check.seed == report.latencies[0].seed]
    return "; ".join([*limits, *checks])


def latency_in_words(check: LatencyCheck) -> str:
    """Return a check as a sentence, such as `latency budget 2x: predicted 2.1x, measured 2.0x (batch 1, 1 thread)`."""
    predicted, measured, unit = check.predicted_ms, check.measured_ms, " ms"
    if check.limit_speedup is not None:
        predicted, measured, unit = check.predicted_speedup, check.measured_speedup, "x"
    budget = check.budget.partition(",")[0].removesuffix(" latency")
    reached = check.reason if measured is None else f"measured {measured:.3g}{unit}"
    missed = ": missed" if check.met is False else ""
    doubt = f"; {check.reason}" if measured is not None and check.reason else ""
    where = f"batch {check.batch}, {plural(check.threads, 'thread')}{doubt}"
    return f"latency budget {budget}: predicted {predicted:.3g}{unit}, {reached} ({where}){missed}"


def ranked(report: Report, label: str = "") -> list[str]:
    """Return methods, best first, at one budget or by the mean over all; last those without a result."""
    accuracies: dict[str, list[float]] = {}
    for (method, budget), seeds in by_cell(report.results).items():
        if budget == label or not label:
            accuracies.setdefault(method, []).extend(seeds.values())
    order = sorted(accuracies, key=lambda method: -fmean(accuracies[method]))
    lost = (one.method for one in report.missing if not one.control and (one.budget == label or not label))
    return [*dict.fromkeys((*order, *lost))]


def method_first(report: Report, label: str) -> list[str]:
    """Return the method of the spec, then the others at a budget, best first."""
    return [report.method, *(method for method in ranked(report, label) if method != report.method)]


def verdict_sentences(report: Report) -> list[str]:
    """Return the verdicts on the spec's method, each a sentence with its budget."""
    columns = columns_of(report)
    return [
        f"{report.method} at {columns.get(verdict.budget, verdict.budget)}: {verdict.words}"
        for verdict in report.verdicts
    ]


def rounds_by_source(report: Report) -> dict[str, list[Mapping[str, Any]]]:
    """Return the rounds of IRP for every source."""
    rounds: dict[str, list[Mapping[str, Any]]] = {}
    for item in report.irp:
        rounds.setdefault(item["source"], []).append(item)
    return rounds


@dataclass(frozen=True)
class Point:
    """Method within a budget: its cost in dense trainings and in seconds, and its test accuracy in percent.

    All are means over seeds; a cost is of masks and training together, `mask` the part of the masks in trainings.
    `best` is true if no method as cheap or cheaper, in trainings, is as accurate (Pareto-optimal).
    """

    method: str
    trainings: float
    seconds: float
    accuracy: float
    best: bool
    mask: float = 0.0
    is_reference: bool = False
    """True for the dense network, trained for some length"""


def frontier(report: Report, budget: str) -> list[Point]:
    """Return the methods of a report within one budget, cheapest first, without those of unknown cost.

    Methods without a network above chance are left out. Costs are counted, so that they are compared exactly.
    """
    costs = {
        cost.method: (cost.trainings + cost.training, cost.seconds + cost.training_seconds, cost.trainings)
        for cost in report.mask_costs
        if cost.budget == budget
        and cost.trainings is not None
        and all(map(_is_cost, (cost.trainings, cost.training, cost.seconds, cost.training_seconds)))
    }
    accuracies = by_cell(report.results)
    states = statuses_by_cell(report.results)
    sound = [name for name in costs if TRAINED in states.get((name, budget), ())]
    means = {name: fmean(accuracies[name, budget].values()) for name in sound}
    means = {name: mean for name, mean in means.items() if is_accuracy(mean)}
    points: list[Point] = []
    for method in sorted(means, key=lambda method: (costs[method][0], -means[method])):
        best = all(point.accuracy < means[method] for point in points)
        total, seconds, mask = costs[method]
        points.append(Point(method, total, seconds, means[method], best, mask))
    return points


def reference_points(report: Report) -> list[Point]:
    """Return the dense network at each length of training with a known cost, cheapest first; `best` is false."""
    return [
        Point(f"dense, {one.length:g}x", one.trainings, one.seconds, one.test_accuracy, False, is_reference=True)
        for one in report.references
        if one.trainings is not None and is_accuracy(one.test_accuracy)
    ]


def untrained(report: Report, budget: str) -> list[str]:
    """Return the methods within one budget whose networks all collapsed or are at chance."""
    states = statuses_by_cell(report.results)
    return [method for (method, label), each in states.items() if label == budget and TRAINED not in each]


def is_accuracy(value: float) -> bool:
    """Return whether a number can be an accuracy in percent, and so be drawn."""
    return 0 <= value <= 100


def _is_cost(value: float) -> bool:
    return 0 <= value < math.inf


_COLUMNS = (
    "method", "budget", "sparsity", "seed", "kept", "total", "effective_sparsity", "macs", "dense_macs",
    "effective_macs", "test_accuracy", "test_accuracy_low", "test_accuracy_high", "validation_accuracy",
)  # fmt: skip


def report_csv(report: Report) -> str:
    """Return a line per network: role (`result` or `control`), measured values and status; accuracies in %.

    The status is `trained`, `collapsed`, `at chance`, `diverged` or `failed`; for the last two the measured values are
    empty.
    """
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(["role", *_COLUMNS, "status"])
    for role, results in (("result", report.results), ("control", report.controls)):
        missing = [one for one in report.missing if one.control == (role == "control")]
        networks: list[Result | Missing] = [*results, *missing]
        lines.writerows([role, *(_written(one, name) for name in (*_COLUMNS, "status"))] for one in networks)
    return file.getvalue().rstrip("\n")


def report_markdown(report: Report) -> str:
    """Return test accuracies, mean ± sd over seeds: a row per method and control, a column per budget.

    A cell names the seeds without a result: `diverged`, `71.20, 1 diverged`.
    """
    rows = [[markdown(cell) for cell in (row.title, *row.texts)] for row in rows_of(report)]
    text = table(["method", *map(markdown, columns_of(report))], rows, numbers=True)
    notes = [limits_in_words(report), str(report.start or "")]
    return "\n\n".join([text.rstrip(), *map(markdown, filter(None, notes))])


def _written(network: Result | Missing, name: str) -> object:
    # A spreadsheet takes a text with such a beginning for a formula.
    value = getattr(network, name, "")
    if not isinstance(value, str):
        return finite(value)
    return f"'{visible(value)}" if value.startswith(("=", "+", "-", "@")) else visible(value)
