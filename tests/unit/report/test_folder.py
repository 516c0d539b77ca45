"""The runs of a directory: their tags, which are shown, which is the best."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autosparse.report.folder import find_run, history, resolved_of
from autosparse.store.sealed import seal
from tests.conftest import Workspace, call
from tests.sealing import edit

RUNS = Path(__file__).parents[2] / "fixtures" / "runs"


@pytest.fixture
def two(here: Workspace) -> Workspace:
    """A directory with two finished runs and one that was stopped."""
    shutil.copytree(RUNS, here.folder / "runs")
    shutil.copytree(RUNS / "digits-1", here.folder / "runs" / "digits-3")
    (here.folder / "runs" / "digits-3" / "report.json").unlink()
    for number, run in enumerate(sorted((here.folder / "runs").iterdir())):
        for file in run.iterdir():
            os.utime(file, (1e9 + number, 1e9 + number))
    return here


def names(capsys: pytest.CaptureFixture[str], line: str) -> list[str]:
    """The runs that a command lists."""
    return [run["run"] for run in call(capsys, f"{line} --json").json["runs"]]


def test_tags_are_given_and_taken(two: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Once each, in the order in which they came; a run that was stopped may have them too."""
    for line in (
        "digits-1 first 'of May'",
        "digits-1 first",
        "digits-3 first",
        "digits-1 old",
        "digits-1 old --remove",
    ):
        assert 0 == call(capsys, f"runs tag {line}").code

    assert ("first", "of May") == find_run("digits-1").tags
    assert ["runs/digits-1", "runs/digits-3"] == names(capsys, "runs --tag first")
    assert ["runs/digits-1"] == names(capsys, "runs --tag first --tag 'of May'")
    assert "(first, of May)" in call(capsys, "runs").out


@pytest.mark.parametrize("tag", ["a,b", "' '"])
def test_odd_tags_are_refused(two: Workspace, capsys: pytest.CaptureFixture[str], tag: str) -> None:
    """Before anything runs, in one sentence."""
    for line in (f"runs tag digits-1 {tag}", f"run small.yaml --tag {tag}"):
        ended = call(capsys, line)

        assert 2 == ended.code
        assert "is not a tag" in ended.err
    assert not (two.folder / "runs" / "small-1").exists()


def test_a_damaged_file_of_tags_is_none(two: Workspace) -> None:
    """The run is shown without."""
    (two.folder / "runs" / "digits-1" / "tags.json").write_text('{"a"')

    assert () == find_run("digits-1").tags


@pytest.mark.parametrize(
    ("options", "result"),
    [
        ("--spec digits", ["runs/digits-1", "runs/digits-2"]),
        ("--model resnet8 --dataset digits --method learned", ["runs/digits-2"]),
        ("--model vgg", []),
        ("", ["runs/digits-1", "runs/digits-2", "runs/digits-3"]),
    ],
)
def test_runs_are_chosen_by_what_they_were(
    two: Workspace, capsys: pytest.CaptureFixture[str], options: str, result: list[str]
) -> None:
    """Of a run that has not finished nothing but its tags is known."""
    assert result == names(capsys, f"runs {options}")


def test_the_best_is_of_the_same_network_and_dataset(two: Workspace) -> None:
    """At each budget that several reached, with all of their options; one alone is not the best of anything."""
    first, second, elsewhere = (find_run(name) for name in ("digits-1", "digits-2", "digits-2"))
    spec = resolved_of(second)

    assert [("0.95", "0.98"), ()] == [one.best for one in history([first, second])]
    assert [()] == [one.best for one in history([first])]
    for changed in ({"dataset": {**spec["dataset"], "size": 16}}, {"model": {**spec["model"], "width": 4}}):
        (elsewhere.folder / "resolved.json").write_bytes(seal({**spec, **changed}))
        assert [(), ()] == [one.best for one in history([first, elsewhere])]
    (elsewhere.folder / "resolved.json").unlink()
    assert [(), ()] == [one.best for one in history([first, elsewhere])]


@pytest.mark.parametrize("status", ["at chance", "collapsed"])
def test_a_run_without_a_trained_network_is_never_the_best(two: Workspace, status: str) -> None:
    """Nor is it a rival that another run is better than."""
    first, second = find_run("digits-1"), find_run("digits-2")
    assert first.report
    useless = replace(first.report, results=[replace(one, status=status) for one in first.report.results])
    rows = history([replace(first, report=useless), second])

    assert [(), ()] == [one.best for one in rows]
    assert {"0.9": status, "0.95": status, "0.98": status} == rows[0].statuses


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda report: report | {"schema_version": 2}, "was written by another version of autosparse"),
        (lambda report: {k: v for k, v in report.items() if k != "provenance"}, "was written by another version"),
        (
            lambda report: report | {"results": [{"method": "erk"}]},
            "its report.json was written by another version of autosparse",
        ),
        (lambda report: report | {"results": "x"}, "its report.json is damaged"),
        (lambda report: report | {"schema_version": "x"}, "its report.json is damaged"),
        (lambda _: {}, "its report.json is damaged"),
    ],
)
def test_a_report_of_another_version_is_not_damaged(
    two: Workspace, capsys: pytest.CaptureFixture[str], change: Callable[[dict[str, Any]], Any], problem: str
) -> None:
    """It lacks fields or has another schema; both are shown again by a new run."""
    path = two.folder / "runs" / "digits-1" / "report.json"
    edit(path, change)
    shown = call(capsys, "report digits-1")

    assert problem in shown.err
    assert "hint: the command that started it writes it again" in shown.err


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("report.json", "[" * 100_000, "its report.json is damaged"),
        ("report.json", "[]", "its report.json is damaged"),
        ("report.json", "\udcff", "its report.json is damaged"),
        ("report.json", None, "its report.json cannot be read: Is a directory"),
        ("report.json", "link", "its report.json cannot be read: Too many levels of symbolic links"),
        ("tags.json", "[" * 100_000, ""),
        ("plan.json", "[" * 100_000, ""),
        ("resolved.json", "[" * 100_000, ""),
    ],
)
def test_a_broken_run_breaks_no_other(
    two: Workspace, capsys: pytest.CaptureFixture[str], file: str, content: str | None, problem: str
) -> None:
    """It is listed with the reason, and can be removed; commands about the others go on."""
    path = two.folder / "runs" / "digits-1" / file
    path.unlink(missing_ok=True)
    if content is None:
        path.mkdir()
    elif content == "link":
        path.symlink_to(path.name)
    else:
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
    listed = call(capsys, "runs")
    about, report, other = (call(capsys, f"{line}") for line in ("runs --json", "report", "report digits-2"))

    assert [0, 0, 0, 0] == [ended.code for ended in (listed, about, report, other)]
    assert problem in " ".join(listed.out.split())
    assert 3 == len(about.json["runs"])
    problems = {run["run"]: run["problem"] for run in about.json["runs"]}
    assert (problem or None, None) == (problems["runs/digits-1"], problems["runs/digits-2"])
    assert 0 == call(capsys, "runs rm digits-1 --yes").code
