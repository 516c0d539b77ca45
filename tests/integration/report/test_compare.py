"""Runs compared on the command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import Ended, Workspace, call
from tests.sealing import replace_text


def test_runs_are_compared_on_the_command_line(
    finished: tuple[Workspace, Ended], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By folder, as tables and as JSON; an unfinished run, a single one and a missing one exit with code 2."""
    run = finished[0].folder / finished[1].json["run"]
    other, broken = tmp_path / "other", tmp_path / "broken"
    shutil.copytree(run, other)
    replace_text(other / "resolved.json", '"epochs": 1,', '"epochs": 7,')
    shutil.copytree(run, broken)
    (broken / "report.json").unlink()
    shown, document = call(capsys, f"compare {run} {other}"), call(capsys, f"compare {run} {other} --json")

    assert (0, 0) == (shown.code, document.code)
    assert "training.epochs" in shown.out
    assert "no method, budget and seed with trained networks in common" in " ".join(shown.out.split())  # one epoch
    assert [1, 7] in [row["values"] for row in document.json["settings"]]
    assert {None} == {gain for row in document.json["results"] for gain in row["gains"]}
    assert {"mean", "low", "high"} == document.json["results"][0]["accuracies"][0].keys()
    assert "the specs are identical" in call(capsys, f"compare {run} {run}").out
    for line, text in (
        (f"compare {run}", "takes two runs or more"),
        (f"compare {run} {broken}", "cannot be compared: it has not finished"),
        (f"compare {run} nowhere", "no run `nowhere`"),
    ):
        ended = call(capsys, line)
        assert 2 == ended.code
        assert text in ended.err
