"""Runs of some steps, and steps that are made again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import Ended, Workspace, call

# A network of one's own whose initial weights depend on what no key knows.
DRAWN = """\
import os, torch

def build(input_shape, classes):
    torch.manual_seed(int(os.environ.get("DRAW", "0")))
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.Linear(8, classes))
"""
SPEC = (
    "model: net.py:build\ndataset: digits\nmethod: random\ncompare: [dense]\ncontrols: []\nbudget: [0.5]\nemit: []\n"
    "training: {epochs: 1, precision: float32}\ntarget: {device: cpu, threads: 1}\n"
)
INIT = "init/net.py:build/seed0"


@pytest.fixture
def drawn(here: Workspace, capsys: pytest.CaptureFixture[str]) -> Workspace:
    """A place with a finished run of a network that can be made to begin differently."""
    (here.folder / "net.py").write_text(DRAWN)
    (here.folder / "mine.yaml").write_text(SPEC)
    assert 0 == call(capsys, "run mine.yaml --quiet").code
    return here


def inodes(workspace: Workspace, operation: str) -> set[int]:
    """Return the inodes that show whether an operation's artifacts were replaced."""
    return {path.stat().st_ino for path in (workspace.cache / "artifacts" / operation).glob("*/artifact.json")}


def test_only_some_steps(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """The named steps and their inputs run, they are listed, and no run folder exists yet."""
    first = call(capsys, "run small.yaml --only init/resnet8/seed0 --only data/* --json")
    second = call(capsys, "run small.yaml --only mask/random/0.8/seed0")

    assert (0, 0) == (first.code, second.code)
    assert ["data/digits", "init/resnet8/seed0"] == first.json["made"]
    assert (None, {"run": 2, "reuse": 0, "resume": 0}, 50) == (
        first.json["run"],
        first.json["steps"],
        len(first.json["missing"]),
    )
    assert "+ made   mask/random/0.8/seed0\n= reused data/digits\n= reused init/resnet8/seed0\n1 made, 2" in second.out
    assert "49 steps of small left to run" in second.out
    assert not (here.folder / "runs").exists()


def test_only_what_was_left_finishes_the_plan(
    finished: tuple[Workspace, Ended], here: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """When nothing remains to run, the report is shown as usual."""
    shutil.copytree(finished[0].cache, here.cache)
    shutil.rmtree(here.cache / "artifacts" / "emit")
    ended = call(capsys, "run small.yaml --only emit/* --json")

    assert finished[1].json["results"] == ended.json["results"]
    assert 2 == ended.json["steps"]["run"]


def test_what_is_not_asked_for_is_not_made(
    finished: tuple[Workspace, Ended], here: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Existing steps do not restore deleted inputs."""
    shutil.copytree(finished[0].cache, here.cache)
    shutil.rmtree(here.cache / "artifacts" / "irp")
    ended = call(capsys, "run small.yaml --only scorer --json")

    assert (["scorer"], []) == (ended.json["reused"], ended.json["made"])


def test_a_forced_step_with_the_same_bytes_changes_nothing_else(
    drawn: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is re-run and replaced, and its dependents are reused."""
    before = {operation: inodes(drawn, operation) for operation in ("train", "mask", "evaluate")}
    ended = call(capsys, "run mine.yaml --force train/dense/seed0 --json")

    assert "note: `train/dense/seed0` is rebuilt with identical bytes" in ended.err
    assert (1, 7 - 1) == (ended.json["steps"]["run"], ended.json["steps"]["reuse"])
    assert 1 == len(before["train"] - inodes(drawn, "train"))
    assert before["evaluate"] == inodes(drawn, "evaluate")
    assert before["mask"] == inodes(drawn, "mask")
    assert [] == list((drawn.cache / "drafts").glob("*"))
    assert not (drawn.cache / "damaged").exists()


def test_other_bytes_reach_all_that_was_made_from_them(
    drawn: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dependents of the old bytes re-run, down to the report; others are reused."""
    monkeypatch.setenv("DRAW", "1")
    ended = call(capsys, f"run mine.yaml --force {INIT} --json")
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(drawn.folder / "fresh"))
    fresh = call(capsys, "run mine.yaml --json --out fresh-run")

    assert f"note: `{INIT}` is rebuilt with different bytes" in ended.err
    assert fresh.json["results"] == ended.json["results"]
    assert 0 == call(capsys, "cache verify").code
    descriptors = [json.loads(path.read_text()) for path in (drawn.cache / "artifacts").glob("*/*/artifact.json")]
    files = {about["key"]: about["files"] for about in descriptors}
    again = {a["key"]: a["files"] for p in (drawn.folder / "fresh").glob("artifacts/*/*/artifact.json")
             for a in [json.loads(p.read_text())]}  # fmt: skip
    assert again == files


def test_an_interrupted_forcing_goes_on(
    drawn: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dependents of old bytes are recognized by their inputs' digests, though the bytes are the same again."""
    monkeypatch.setenv("DRAW", "1")
    first = call(capsys, f"run mine.yaml --only {INIT} --force {INIT} --json")
    second = call(capsys, f"run mine.yaml --force {INIT} --json")

    assert {"train/random/0.5/seed0", "train/dense/seed0", "mask/random/0.5/seed0"} <= set(first.json["stale"])
    assert "were made from bytes that are replaced now" in first.err
    assert f"hint: `autosparse run SPEC --force {INIT}`, for each spec, rebuilds them" in first.err
    assert f"`{INIT}` is rebuilt with identical bytes" in second.err
    assert "`train/dense/seed0` is rebuilt with different bytes" in second.err
    assert 6 == second.json["steps"]["run"]


def test_artifacts_of_other_specs_are_named(
    drawn: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those made from the old bytes are left, and said to be."""
    assert 0 == call(capsys, "run mine.yaml --budget 0.6 --quiet").code
    monkeypatch.setenv("DRAW", "1")
    ended = call(capsys, f"run mine.yaml --force {INIT}")

    assert "/0.6/seed0` and " in ended.err
    assert "made from bytes that are replaced now, and left as they are" in ended.err


def test_a_forced_step_that_fails_leaves_the_old_one(
    drawn: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The existing artifact is replaced by a complete one or not at all."""
    before = inodes(drawn, "init")
    monkeypatch.setenv("DRAW", "no number")
    ended = call(capsys, f"run mine.yaml --force {INIT}")

    assert 0 != ended.code
    assert before == inodes(drawn, "init")
    assert 0 == call(capsys, "cache verify").code


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("run small.yaml --only train", "error: `--only train` matches no step\nhint: did you mean `train/*`?"),
        ("run small.yaml --force scorrer", "error: `--force scorrer` matches no step\nhint: did you mean `scorer`?"),
        ("run small.yaml --only data/* --out there", "`--only` leaves the plan unfinished"),
        ("run p.json --force scorer", "a saved plan is run as it is: p.json takes no `--force`"),
    ],
)
def test_mistakes_are_sentences(here: Workspace, capsys: pytest.CaptureFixture[str], line: str, text: str) -> None:
    """Unknown steps, and options that contradict each other, end with 2 before anything runs."""
    assert 0 == call(capsys, "plan small.yaml --out p.json").code
    ended = call(capsys, line)

    assert 2 == ended.code
    assert text in ended.err
    assert not (here.cache / "artifacts").exists()
    assert not Path("there").exists()


def test_a_run_says_what_a_limit_took(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """As in the plan: the steps to run are fewer than the defaults of open settings."""
    usual = call(capsys, "plan small.yaml --set irp.rounds=auto --json").json["summary"]["seconds"]
    ended = call(capsys, f"run small.yaml --only data/* --set irp.rounds=auto --set target.time={usual:.1f}s")

    assert 0 == ended.code
    assert f"to fit target.time {usual:.1f}s: irp.rounds 16 → " in ended.err


def test_a_step_records_its_time_on_an_idle_machine(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Next to its wall time, which load makes longer."""
    assert 0 == call(capsys, "run small.yaml --only data/*").code
    (path,) = here.cache.glob("artifacts/**/artifact.json")
    descriptor = json.loads(path.read_text(encoding="utf-8"))

    assert 0 < descriptor["idle_seconds"] <= descriptor["seconds"]
