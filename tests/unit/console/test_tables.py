"""Tables on narrow terminals: numbers stay whole, names fold at separators, hidden columns are named."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from autosparse.console.chart import show_frontier, show_profiles
from autosparse.console.format import FIXED, fold, plain, show_table
from autosparse.console.models import show_verified
from autosparse.console.report import show_report, show_runs
from autosparse.report.cells import columns_of, only
from autosparse.report.folder import Run, history
from autosparse.report.schema import LayerShare, Report
from tests.docs.outputs import REPORTS

LONG = "my_package/scores.py:a_rather_long_scoring_function_name"


@pytest.fixture
def digits() -> Report:
    """A finished run of digits with a collapsed method."""
    return Report.of(json.loads(REPORTS[0].read_text(encoding="utf-8")))


def renamed(report: Report, name: str) -> Report:
    """The report with another name of its method."""

    def named(sequence: list[object]) -> list[object]:
        return [replace(one, method=one.method.replace(report.method, name)) for one in sequence]  # type: ignore[type-var, attr-defined]

    parts = {part: named([*getattr(report, part)]) for part in ("results", "controls", "mask_costs", "profiles")}
    return replace(report, method=name, **parts)  # type: ignore[arg-type]


def shown(
    width: int, rows: Sequence[tuple[str, ...]], titles: tuple[str, ...], numbers: int, *optional: int
) -> list[str]:
    """The lines of a table on a terminal."""
    console = Console(file=io.StringIO(), width=width)
    show_table(titles, rows, numbers, optional=optional, console=console)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("scores.py:GradientFlow", 12, ["scores.py:", "GradientFlow"]),
        ("scores.py:GradientFlow", 22, ["scores.py:GradientFlow"]),
        ("learned+50pct.layer_mean", 14, ["learned+50pct.", "layer_mean"]),
        ("runs/a-long-name-1", 8, ["runs/a-", "long-", "name-1"]),
        ("0.9: 98.0, 0.95: 98.3*", 12, ["0.9: 98.0,", "0.95: 98.3*"]),
        ("2.99/2.82 1e-05", 9, ["2.99/2.82", "1e-05"]),
        ("GradientFlow", 5, ["Gradi", "entFl", "ow"]),
        ("ab\ncdef", 2, ["ab", "cd", "ef"]),
        (f"a{FIXED}b c", 3, ["a b", "c"]),
        ("", 3, [""]),
        ("  -17.7", 5, ["  -17", ".7"]),
    ],
)
def test_names_fold_at_separators(text: str, width: int, lines: list[str]) -> None:
    """At spaces first; inside a word only where it is wider than a line."""
    assert lines == fold(plain(text) if "\n" not in text else plain("ab").append("\n" + text[3:]), width).plain.split(
        "\n"
    )


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120])
def test_numbers_are_never_cut(width: int) -> None:
    """Whatever the names; columns without room are hidden and named."""
    rows = [(LONG, "98.00 ± 0.10", "397 kB", "0.95×"), ("a" * 90, "7.67 collapsed", "48 kB", "1.01×")]
    lines = shown(width, rows, ("method", "accuracy", "size", "faster"), 3, 3)
    text, hidden = "\n".join(lines), " ".join(lines).partition(f"hidden at {width} columns: ")[2]

    assert max(map(len, lines)) <= width
    for title, values in zip(("accuracy", "size", "faster"), zip(*(row[1:] for row in rows), strict=True), strict=True):
        assert all(value in text for value in values) != (title in hidden)
    assert "accuracy" not in hidden


def test_names_fold_before_columns_are_hidden() -> None:
    """The optional ones in their order, then the last; a blank line follows their names."""
    rows = [("my_scores.py:GradientFlowLayerwise", *("7.67 collapsed",) * 3)]
    titles = ("method", "0.9", "0.95", "0.98")

    assert not any("hidden" in line for line in shown(80, rows, titles, 3, 2, 1))
    assert ["hidden at 60 columns: 0.95", ""] == shown(60, rows, titles, 3, 2, 1)[-2:]
    assert "hidden at 30 columns: 0.95, 0.98" in " ".join(" ".join(shown(30, rows, titles, 3, 2)).split())


@pytest.mark.parametrize("width", [40, 60])
def test_every_table_of_a_report_fits(
    digits: Report, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """With a long name of its method and long layers; accuracies, costs, bytes and shares are whole."""
    monkeypatch.setenv("COLUMNS", str(width))
    report = renamed(digits, LONG)
    layers = [LayerShare(f"backbone.stages.{n}.blocks.conv1.weight", 1000, 955) for n in range(3)]
    report = replace(report, profiles=[replace(one, layers=layers) for one in report.profiles])
    show_report(report, ["accuracy", "paths", "layers", "frontier", "models"])
    text = capsys.readouterr().out

    assert max(map(len, text.splitlines())) <= width
    for whole in ("96.00*", "7.67 collapsed", "8.06", "397 kB", "30.6 kB", "1,000", "95.5", "90.67*"):
        assert re.search(rf"(?<!\S){re.escape(whole)}(?!\S)", text), whole
    assert "magnitude\n" not in text.replace("magnitude \n", "")


def test_runs_keep_their_accuracies(
    digits: Report, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Next to a long folder."""
    monkeypatch.setenv("COLUMNS", "60")
    folder = Path("/home/ada/projects/pruning/runs/a-rather-long-name-of-a-run-1")
    show_runs(history([Run(folder, digits, "", ()), Run(Path("b"), digits, "", ("tag",))]))
    text = capsys.readouterr().out

    assert max(map(len, text.splitlines())) <= 60
    for whole in ("0.9: 98.0*", "0.95: 98.3*", "0.98: 96.0*", "(tag)"):
        assert 1 <= text.count(whole)


def test_a_choice_of_methods_keeps_budgets_and_best(digits: Report, capsys: pytest.CaptureFixture[str]) -> None:
    """Stars and captions are those of the whole run, and its warnings are called so; the dense network has columns."""
    sections = ["accuracy", "frontier", "warnings"]
    show_report(digits, sections)
    whole = capsys.readouterr().out.splitlines()
    for method in ("erk", "dense", "synflow", digits.method):
        show_report(digits, sections, methods=[method])
        text = capsys.readouterr().out
        rows = [line for line in text.splitlines() if line.startswith(f" {method} ")]

        assert rows
        assert {line.split()[0] for line in rows} == {method}
        assert {" ".join(line.split()) for line in rows} <= {" ".join(line.split()) for line in whole}
        assert all(title in text for title in columns_of(digits).values())
        assert "warnings of the whole run\nwarning: " in text
    assert not any("of the whole run" in line for line in whole)
    assert {"0.0": "sparsity 0"} == columns_of(only(digits, ["dense"]))


def test_a_trial_without_a_value_is_shown(digits: Report, capsys: pytest.CaptureFixture[str]) -> None:
    """Its bar is left out."""
    trials = [None, float("nan"), *digits.scorer["trials"]]
    show_report(replace(digits, scorer={**digits.scorer, "trials": trials}), ["scorer"])

    assert f"best of {len(trials)} trials" in " ".join(capsys.readouterr().out.split())


def test_a_section_draws_on_the_console_that_it_is_given(digits: Report) -> None:
    """Bars of the frontier are hidden on a narrow one; its numbers are not."""
    console = Console(file=io.StringIO(), width=48)
    show_frontier(console, digits, "0.98", "sparsity 0.98", {"irp", "erk"})
    show_profiles(console, [one for one in digits.profiles if one.budget == "0.98"], ["erk"], "sparsity 0.98")
    show_verified(digits.emitted, "models", "`again`")
    text = console.file.getvalue()  # type: ignore[attr-defined]

    assert "hidden at 48 columns: bars\n\n" in text
    assert {"erk", "irp"} <= {line.split()[0] for line in text.splitlines() if line.strip()}
    assert "synflow" not in text
