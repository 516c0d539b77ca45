"""A report in parts, and as other programs take it."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from autosparse.console.report import SECTIONS, show_report
from autosparse.report.cells import report_csv, report_markdown
from autosparse.report.schema import LayerShare, Profile, Report
from tests.conftest import Ended, Workspace, call


@pytest.fixture
def report(finished: tuple[Workspace, Ended]) -> Report:
    """That of the small spec's run."""
    return Report.of(finished[1].json)


def test_csv_has_a_line_for_every_network(report: Report) -> None:
    """As a reader of CSV takes it: every result and control, with its numbers."""
    lines = list(csv.DictReader(io.StringIO(report_csv(report))))
    rows_of_results = [line for line in lines if line["role"] == "result"]

    assert [r.method for r in (*report.results, *report.controls)] == [line["method"] for line in lines]
    assert [r.test_accuracy for r in report.results] == [float(line["test_accuracy"]) for line in rows_of_results]
    assert {"0.8", "0.9", "0.0"} == {line["budget"] for line in lines}


def test_markdown_has_a_row_for_every_method(report: Report) -> None:
    """One column a budget; the dense network is the same in all; names are no markup."""
    odd = [replace(result, method="a|b`") if result.method == "snip" else result for result in report.results]
    odd = [replace(one, status="trained") if one.method == "dense" else one for one in odd]  # after one epoch
    rows = [line.strip("| ").split(" | ") for line in report_markdown(replace(report, results=odd)).splitlines()]
    dense = next(result for result in report.results if result.method == "dense").test_accuracy

    assert ["method", "0.8", "0.9"] == rows[0]
    assert {3} == {len(row) for row in rows}
    assert ["dense", f"{dense:.2f}", f"{dense:.2f}"] in rows
    assert "a_b_" in [row[0] for row in rows]
    assert "control learned.shuffle" in [row[0] for row in rows]


@pytest.mark.parametrize("section", SECTIONS)
def test_one_section_alone(report: Report, capsys: pytest.CaptureFixture[str], section: str) -> None:
    """Is a part of the wide report."""
    show_report(report, wide=True)
    whole = capsys.readouterr().out
    show_report(report, [section])
    alone = capsys.readouterr().out

    assert len(alone) < len(whole)
    assert {*alone.splitlines()} <= {*whole.splitlines()}


def test_methods_are_shown_in_the_order_that_is_asked_for(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    """By name, or the best first."""
    actual = {}
    for sort in ("name", "accuracy"):
        show_report(report, ["accuracy"], sort=sort)
        lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(" ")]
        actual[sort] = [words[0] for words in lines if words and words[0] in {r.method for r in report.results}]
    means: dict[str, list[float]] = {}
    for result in report.results:
        means.setdefault(result.method, []).append(result.test_accuracy)

    assert sorted(means) == actual["name"]
    assert sorted(means, key=lambda method: -sum(means[method]) / len(means[method])) == actual["accuracy"]


def test_layers_are_bars(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    """A full bar for all weights, an empty one for a thousandth; weights on no path are shown if any."""
    layers = [LayerShare("a.weight", 1000, 1000, 1000), LayerShare("b.weight", 10_000, 10, 5)]
    show_report(replace(report, profiles=[Profile("learned", "0.9", 0, layers)]), ["layers"])
    shown = capsys.readouterr().out

    assert "████████ 100" in shown
    assert "░░░░░░░░ 0.1/0.05" in shown
    assert "kept weights / on a path of each layer" in " ".join(shown.split())


def test_the_default_report_is_one_screen(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a deep network too: verdicts, accuracies, models and warnings; the rest where it is asked for."""
    deep = [Profile("learned", "0.9", 0, [LayerShare(f"l{n}", 10, 5) for n in range(200)])]
    show_report(replace(report, profiles=deep))
    whole = capsys.readouterr().out
    show_report(replace(report, profiles=deep), wide=True)

    assert len(whole.splitlines()) < 60
    assert "l199" not in whole
    assert "--wide` shows" in whole
    assert "l199" in capsys.readouterr().out


def test_the_command_shows_parts(finished: tuple[Workspace, Ended], capsys: pytest.CaptureFixture[str]) -> None:
    """Of a method, a section, or every budget; what there is not ends with 2 and what there is."""
    run = finished[0].folder / finished[1].json["run"]
    only = call(capsys, f"report {run} --method snip --json").json
    wide = call(capsys, f"report {run} --wide --section paths").out

    assert {"snip"} == {result["method"] for result in only["results"]}
    assert [] == only["controls"]
    assert "at sparsity 0.8" in wide
    assert "at sparsity 0.9" in wide
    assert call(capsys, f"report {run} --csv").out.startswith("role,method,budget")
    for options, text in (
        ("--section layer", "did you mean `layers`?"),
        ("--method snpi", "did you mean `snip`?"),
        ("--csv --md", "are different outputs"),
    ):
        ended = call(capsys, f"report {run} {options}")
        assert 2 == ended.code
        assert text in ended.err
