"""Lines in a terminal stand where their numbers are."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from autosparse.console.chart import show_chart
from autosparse.report.folder import find_run
from autosparse.report.schema import Report

RUN = Path(__file__).parents[2] / "fixtures" / "runs" / "digits-1"


@pytest.fixture
def report() -> Report:
    """That of the digits spec at three budgets."""
    result = find_run(str(RUN)).report
    assert result is not None
    return result


def drawn(report: Report, width: int = 80) -> list[str]:
    """The lines of the chart."""
    file = io.StringIO()
    show_chart(Console(file=file, width=width), report)
    return file.getvalue().splitlines()


def test_the_highest_value_is_in_the_first_row_and_the_lowest_in_the_last(report: Report) -> None:
    """IRP has 99.0 at the first budget, ERK 90.67 at the last; each mark is in its budget's column."""
    title, *rows = drawn(report)
    plot = [row[8:] for row in rows if "│" in row]

    assert "test accuracy" in title
    assert rows[0].startswith("  99.0 │○")
    assert rows[8].startswith("  90.7 │")
    assert "×" == rows[8].rstrip()[-1]
    assert 3 == sum(row.count("●") for row in plot)
    assert ["0.9", "0.95", "0.98"] == rows[9].split()


@pytest.mark.parametrize("width", [30, 60, 200])
def test_it_fits(report: Report, width: int) -> None:
    """Into any terminal; names that would touch are left out."""
    assert max(map(len, drawn(report, width))) <= width


def test_two_budgets_are_read_faster_in_the_table(report: Report) -> None:
    """Nothing is drawn of them, and nothing of a report without the spec's method."""
    two = replace(report, results=[result for result in report.results if result.sparsity != 0.95])
    without = replace(report, results=[result for result in report.results if result.method != report.method])

    assert [] == drawn(two)
    assert [] == drawn(without)


def test_level_lines_can_be_drawn(report: Report) -> None:
    """All values the same."""
    assert drawn(replace(report, results=[replace(result, test_accuracy=50.0) for result in report.results]))
