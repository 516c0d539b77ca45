"""A report's results as other programs take them: CSV, a line a network, and a Markdown table."""

from __future__ import annotations

import csv
import io

from autosparse.report.build import Report, Result
from autosparse.report.cells import columns_of, rows_of
from autosparse.report.failures import Missing
from autosparse.text import literal, table, visible

_COLUMNS = (
    "method", "budget", "sparsity", "seed", "kept", "total", "effective_sparsity", "macs", "dense_macs",
    "effective_macs", "test_accuracy", "validation_accuracy",
)  # fmt: skip


def report_csv(report: Report) -> str:
    """A line for every network: its role, `result` or `control`, what was measured, and its status; accuracies in %.

    The status is `trained`, `diverged` or `failed`; without a result the measured values are empty.
    """
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(["role", *_COLUMNS, "status"])
    for role, results in (("result", report.results), ("control", report.controls)):
        lines.writerows([role, *(_value(result, name) for name in _COLUMNS), "trained"] for result in results)
        missing = [one for one in report.missing if one.control == (role == "control")]
        lines.writerows([role, *(_known(one, name) for name in _COLUMNS), one.status] for one in missing)
    return file.getvalue().rstrip("\n")


def report_markdown(report: Report) -> str:
    """Test accuracies, mean ± sd over seeds: a row for every method and control, a column for every budget.

    A cell names the seeds without a result: `diverged`, `71.20, 1 diverged`.
    """
    rows = [(literal(row.told), *map(literal, row.texts)) for row in rows_of(report)]
    return table(("method", *columns_of(report)), rows, numbers=True)


def _value(result: Result, name: str) -> object:
    value = result.label if name == "budget" else getattr(result, name)
    return visible(value) if isinstance(value, str) else value


def _known(missing: Missing, name: str) -> object:
    value = getattr(missing, name, "")
    return visible(value) if isinstance(value, str) else value
