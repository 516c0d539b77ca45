"""Reports with hostile names and impossible numbers, in every output."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autosparse.console.report import show_report, show_runs
from autosparse.report.cells import report_csv, report_markdown
from autosparse.report.folder import Run, history
from autosparse.report.schema import Report
from autosparse.store.sealed import seal, unseal
from autosparse.text import escaped, markdown, number, seconds, size, sparkline, trainings
from tests.conftest import Workspace, call

RUN = Path(__file__).parents[2] / "fixtures" / "runs" / "digits-1"
HOSTILE = "<script>alert(1)</script>|`[a](http://x)\x1b[31m\x9b1m\u202e\n| b |"
NAMES = ("method", "budget", "spec", "model", "dataset", "step", "message", "status")


def document() -> dict[str, Any]:
    """Return the report of a finished run."""
    value: dict[str, Any] = unseal((RUN / "report.json").read_bytes())
    return value


def changed(value: Any, change: Callable[[str], str], name: str = "") -> Any:
    """Return a JSON value with all of its names changed."""
    if isinstance(value, dict):
        return {key: changed(part, change, key) for key, part in value.items()}
    if isinstance(value, list):
        return [changed(part, change, name) for part in value]
    return change(value) if isinstance(value, str) and name in (*NAMES, "warnings", "oracles") else value


@pytest.mark.parametrize("option", ["--md", "--csv", "--json", "--wide"])
def test_hostile_names_are_plain_text(here: Workspace, capsys: pytest.CaptureFixture[str], option: str) -> None:
    """No control character, no markup, no formula of a spreadsheet, no line break."""
    shutil.copytree(RUN, "runs/digits-1")
    Path("runs/digits-1/report.json").write_bytes(seal(changed(document(), lambda name: f"={name}{HOSTILE}")))
    shown = call(capsys, f"report digits-1 {option}")

    assert 0 == shown.code, shown.err
    assert not {"\x1b", "\x9b", "\u202e"} & {*shown.out}
    if option == "--md":
        assert "<script>" not in shown.out
        assert "](http" not in shown.out.replace("\\](http", "")
        assert 1 == len({line.count(" | ") for line in shown.out.splitlines()})
    if option == "--csv":
        assert not [cell for line in csv.reader(io.StringIO(shown.out)) for cell in line if cell.startswith("=")]
    if option == "--json":
        assert f"={document()['method']}{HOSTILE}" == shown.json["method"]


def numbers(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every number, of lists those of the first item."""
    if isinstance(value, dict | list):
        parts = value.items() if isinstance(value, dict) else enumerate(value[:1])
        for name, part in parts:
            yield from numbers(part, (*path, name))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path


@pytest.mark.slow
@pytest.mark.parametrize("odd", [math.inf, math.nan, -math.inf, -1.0, 1e308])
def test_impossible_numbers_are_shown(capsys: pytest.CaptureFixture[str], odd: float) -> None:
    """Each number of a report in turn, on a terminal and for other programs; none is infinite, or no number."""
    whole, tried = document(), 0
    for path in numbers(whole):
        value = document()
        holder = value
        for name in path[:-1]:
            holder = holder[name]
        holder[path[-1]] = odd
        try:
            report = Report.of(value)
        except ValueError:  # such as a count that is a fraction
            continue
        tried += 1
        assert report_csv(report) and report_markdown(report)  # noqa: PT018
        show_report(report, wide=True)
        show_runs(history([Run(Path("a"), report, "", ()), Run(Path("b"), Report.of(whole), "", ())]))
        capsys.readouterr()
    assert (tried > 30) == math.isfinite(odd)


def test_an_infinite_cost(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """No report has it: the file is damaged, and its run can write it again."""
    shutil.copytree(RUN, "runs/digits-1")
    value = document()
    value["cost"] = dict.fromkeys(value["cost"], math.inf)
    Path("runs/digits-1/report.json").write_bytes(seal(value))

    shown = call(capsys, "report digits-1 --wide")
    assert 2 == shown.code
    assert "run runs/digits-1 cannot be shown: its report.json is damaged" in shown.err
    assert 0 == call(capsys, "runs").code


def test_texts_of_odd_numbers() -> None:
    """They have one word; a row of bars keeps the others."""
    for text in (number, seconds, size, trainings):
        assert ["unknown"] * 3 == [text(value) for value in (math.inf, -math.inf, math.nan)]
    assert "▁?█?" == sparkline([0.0, math.nan, 1.0, math.inf])


def test_markdown_has_no_markup() -> None:
    """Links, emphasis, tags and cells."""
    assert r"\[a\](b) \*c\* _d_ \\" == markdown("[a](b) *c* <d> \\")


def test_json_shows_no_invisible_character() -> None:
    """They are escapes, which a reader of JSON turns back."""
    value = "é\x7f\x9b\u202e\ud800\U000e0001"
    text = escaped(json.dumps([value], ensure_ascii=False, indent=1))

    assert '[\n "é\\u007f\\u009b\\u202e\\ud800\\udb40\\udc01"\n]' == text
    assert [value] == json.loads(text)
