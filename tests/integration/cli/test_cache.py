"""Passing artifacts on: to a shared store, in one file, and taking them, checked."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.conftest import Ended, Workspace, call
from tests.sealing import edit


@pytest.fixture
def made(finished: tuple[Workspace, Ended], here: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A directory whose cache holds a finished run; fetched artifacts go into another."""
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(finished[0].cache))
    return here


def statuses(ended: Ended) -> dict[str, str]:
    """Step -> what happened to it."""
    assert 0 == ended.code, ended.err
    return {row["step"]: row["status"] for row in ended.json["artifacts"]}


def test_what_a_group_makes_once_is_pushed_and_pulled(
    made: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """IRP, labels, trials and the scorer; a plan elsewhere reuses them."""
    shared = made.folder / "shared"
    pushed = statuses(call(capsys, f"cache push small.yaml {shared} --json"))
    again = statuses(call(capsys, f"cache push small.yaml {shared} --json"))
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(made.cache))
    pulled = statuses(call(capsys, f"cache pull small.yaml {shared} --json"))
    plan = call(capsys, "plan small.yaml --json").json
    reused = {step["name"] for step in plan["steps"] if step["status"] == "reuse"}

    assert {"published"} == {*pushed.values()}
    assert {"there already"} == {*again.values()}
    assert {"taken"} == {*pulled.values()}
    assert pushed.keys() == pulled.keys() == reused
    assert {"irp/seed100/round3", "label/seed100", "tune", "scorer"} <= reused
    assert not {step for step in reused if step.startswith(("train/", "mask/"))}


@pytest.mark.parametrize("line", ["push own.yaml shared", "pull own.yaml shared", "export own.yaml own.zip"])
def test_a_spec_that_names_user_code_is_noted_before_its_import(
    made: Workspace, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    """As `plan` does; a key imports nothing and prints no note."""
    (made.folder / "own_net.py").write_text("from autosparse.models.builtin import lenet\n\nbuild = lenet\n", "utf-8")
    (made.folder / "own.yaml").write_text("{version: 1, model: 'own_net.py:build', dataset: digits}\n", "utf-8")
    (made.folder / "shared").mkdir()
    verb, _, target = line.split()
    key = call(capsys, "cache ls --json").json["artifacts"][0]["key"]

    noted = call(capsys, f"cache {line}")
    unnoted = call(capsys, f"cache {verb} {key} {target}")

    assert 1 == noted.err.count("note: importing your code, ")
    assert "own_net.py:build" in noted.err
    assert "importing" not in unnoted.err


def test_all_steps_and_single_ones(made: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """`--all` takes all of a spec, a key one artifact, and how it begins is enough."""
    everything = statuses(call(capsys, f"cache push small.yaml {made.folder / 'all'} --all --json"))
    key = next(row["key"] for row in call(capsys, "cache ls --json").json["artifacts"] if row["operation"] == "scorer")
    one = statuses(call(capsys, f"cache push {key[:10]} {made.folder / 'one'} --json"))

    assert any(step.startswith("train/") for step in everything)
    assert {"scorer": "published"} == one


def test_a_store_named_by_the_environment_is_used_by_every_command(
    made: Workspace,
    finished: tuple[Workspace, Ended],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a machine with nothing in its cache: a plan reuses all, an export finds what the run had made."""
    shared = made.folder / "shared"
    call(capsys, f"cache push small.yaml {shared} --all")
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(made.cache))
    monkeypatch.setenv("AUTOSPARSE_STORE", str(shared))
    run = finished[0].folder / finished[1].json["run"]
    exported = call(capsys, f"export {run} --format compact --budget 0.8 --out out --json")

    assert 0 == call(capsys, "plan small.yaml --json").json["summary"]["run"]
    assert 0 == exported.code, exported.err
    assert ["compact"] == [model["format"] for model in exported.json["emitted"]]


def test_a_file_travels(made: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what it holds, and is taken as a whole or in part."""
    exported = statuses(call(capsys, "cache export small.yaml group.zip --json"))
    page = zipfile.ZipFile("group.zip").read("README.md").decode()
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(made.cache))
    pulled = statuses(call(capsys, "cache pull group.zip --json"))
    again = call(capsys, "cache pull group.zip")
    verified = call(capsys, "cache verify --json").json

    assert {"exported"} == {*exported.values()}
    assert all(f"## {step}\n" in page for step in exported)
    assert exported.keys() == pulled.keys()
    assert "here already" in again.out
    assert {"schema_version": 1, "checked": len(pulled), "remembered": 0, "damaged": []} == verified


@pytest.mark.parametrize("what", ["bytes", "options"])
def test_what_was_changed_on_the_way_is_refused(
    made: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A file's bytes, or what an artifact says it was made from: its key would be another."""
    call(capsys, f"cache push small.yaml {made.folder / 'shared'}")
    if what == "bytes":
        for path in Path("shared/files").glob("*/*"):
            path.write_bytes(path.read_bytes()[::-1])
    else:
        for path in Path("shared/artifacts").glob("*/*.json"):
            edit(path, lambda about: {**about, "options": {**about["options"], "seed": 7}})
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(made.cache))
    ended = call(capsys, f"cache pull small.yaml {made.folder / 'shared'}")

    assert 4 == ended.code
    assert (
        "differs from the published file" if what == "bytes" else "its key is not that of what it says"
    ) in ended.err
    assert not list(made.cache.glob("artifacts/*/*"))


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("cache push nope.yaml shared", "does not exist"),
        ("cache push 0123456789abcdef shared", "no artifact has a key that begins with"),
        ("cache export small.yaml group.tar", "is not a .zip file"),
        ("cache export small.yaml there.zip", "exists"),
        ("cache pull group.zip", "there is no artifact in group.zip"),
        ("cache push small.yaml nosuch://x", "cannot be opened"),
    ],
)
def test_mistakes_are_told(made: Workspace, capsys: pytest.CaptureFixture[str], line: str, printed: str) -> None:
    """In one sentence; nothing is written."""
    Path("there.zip").write_text("mine")
    ended = call(capsys, line)

    assert ended.code in (2, 5)
    assert printed in ended.err
    assert ["small.yaml", "there.zip"] == sorted(path.name for path in Path().iterdir())
