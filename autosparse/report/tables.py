"""A report's results as other programs take them: CSV, a line a network, and a Markdown table."""

from __future__ import annotations

import csv
import io
import re
import statistics
from collections.abc import Sequence

from autosparse.report.build import Report, Result

_COLUMNS = (
    "method", "budget", "sparsity", "seed", "kept", "total", "effective_sparsity", "macs", "dense_macs",
    "effective_macs", "test_accuracy", "validation_accuracy",
)  # fmt: skip


def report_csv(report: Report) -> str:
    """A line for every trained network: its role, `result` or `control`, and what was measured; accuracies in %."""
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(["role", *_COLUMNS])
    for role, found in (("result", report.results), ("control", report.controls)):
        lines.writerows([role, *(_value(result, name) for name in _COLUMNS)] for result in found)
    return file.getvalue().rstrip("\n")


def report_markdown(report: Report) -> str:
    """Test accuracies, mean ± sd over seeds: a row for every method and control, a column for every budget."""
    pruned = [result for result in report.results if result.method != "dense"]
    budgets = list(dict.fromkeys(result.label for result in sorted(pruned, key=lambda result: result.sparsity)))
    rows = [["method", *budgets], ["---", *("---:" for _ in budgets)]]
    for role, found in (("", report.results), ("control ", report.controls)):
        for method in dict.fromkeys(result.method for result in found):
            own = [result for result in found if result.method == method]
            cells = [_told([r for r in own if r.label == budget or method == "dense"]) for budget in budgets]
            rows.append([role + re.sub(r"[|`<>\x00-\x1f\x7f]", "_", method), *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _value(result: Result, name: str) -> object:
    return result.label if name == "budget" else getattr(result, name)


def _told(found: Sequence[Result]) -> str:
    values = [result.test_accuracy for result in found]
    if len(values) < 2:
        return f"{values[0]:.2f}" if values else ""
    return f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}"
