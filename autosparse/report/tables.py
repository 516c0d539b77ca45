"""A report's results as other programs take them: CSV, a line a network, and a Markdown table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from autosparse.report import Emitted
from autosparse.report.build import Report, Result
from autosparse.report.cells import columns_of, rows_of
from autosparse.report.failures import Missing
from autosparse.text import literal, size, table, visible

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


def verified(emitted: Sequence[Emitted]) -> tuple[list[str], list[list[str]]]:
    """The titles and rows of a table of emitted models."""
    batches = list(dict.fromkeys(count for model in emitted for count in model.batch_latencies_ms))
    rows = [
        [
            model.format,
            f"{model.sparsity:g}",
            size(model.bytes),
            f"{model.dense_bytes / model.bytes:.3g}×" if model.dense_bytes else "",
            *(_faster(model.batch_latencies_ms.get(batch)) for batch in batches),
            f"{model.max_abs_error:.2g}",
            "" if model.test_accuracy is None else f"{model.test_accuracy:.2f}",
        ]
        for model in emitted
    ]
    return ["format", "sparsity", "size", "smaller", *map(images_at_once, batches), "off by", "test"], rows


def images_at_once(count: str) -> str:
    """A number of images, in words."""
    return f"{count} image{'s' * (count != '1')}"


def _faster(pair: Sequence[float] | None) -> str:
    return f"{pair[1] / pair[0]:.2f}×" if pair else ""
