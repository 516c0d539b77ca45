"""A report's results as other programs take them: CSV, a line a network, and a Markdown table."""

from __future__ import annotations

import csv
import io

from autosparse.report.build import Report, Result
from autosparse.report.cells import columns_of, rows_of, spread_of
from autosparse.text import literal, table, visible

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
    rows = [(literal(row.told), *map(spread_of, row.cells)) for row in rows_of(report)]
    return table(("method", *columns_of(report)), rows, numbers=True)


def _value(result: Result, name: str) -> object:
    value = result.label if name == "budget" else getattr(result, name)
    return visible(value) if isinstance(value, str) else value
