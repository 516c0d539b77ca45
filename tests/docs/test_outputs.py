"""What `--json` prints follows the schemas in docs/reference/json."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Ended, Workspace, call
from tests.docs.outputs import COMMANDS, FOLDER, INCOMPLETE, REFUSED, REPORTS, prepare

# jsonschema has no types; the module is reached by name so that type checkers leave it alone.
Validator: Any = importlib.import_module("jsonschema").Draft202012Validator


def follows(name: str, document: Any) -> list[str]:
    """Return the violations of a schema by a document."""
    schema = json.loads((FOLDER / f"{name}.schema.json").read_text(encoding="utf-8"))
    return [f"{error.json_path}: {error.message}" for error in Validator(schema).iter_errors(document)]


@pytest.fixture(scope="module")
def copied(finished: tuple[Workspace, Ended], tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A folder where small.yaml has been run."""
    folder = tmp_path_factory.mktemp("outputs") / "copy"
    shutil.copytree(finished[0].folder, folder)
    prepare(Workspace(folder))
    return Workspace(folder)


@pytest.mark.parametrize("name", COMMANDS)
def test_outputs_follow_their_schemas(
    copied: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Every command's, and nothing else is on stdout."""
    monkeypatch.chdir(copied.folder)
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(copied.cache))
    for line in COMMANDS[name]:
        ended = call(capsys, line)

        assert 0 == ended.code, ended.err
        assert [] == follows(name, ended.json)


@pytest.mark.parametrize("name", REFUSED)
def test_errors_follow_their_schemas(
    copied: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A command that lists errors under `--json` prints them in its one document, and exits with code 2."""
    monkeypatch.chdir(copied.folder)
    ended = call(capsys, REFUSED[name])

    assert (2, "") == (ended.code, ended.err)
    assert [] == follows(name, ended.json)
    assert 3 == len(ended.json["errors"])


@pytest.mark.parametrize("file", REPORTS, ids=lambda file: file.parent.name)
def test_reports_follow_their_schema(file: Path) -> None:
    """Of other specs too."""
    assert [] == follows("run", json.loads(file.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", INCOMPLETE)
def test_outputs_of_runs_with_failures_follow_their_schemas(name: str) -> None:
    """Failed steps and missing cells are in the same documents."""
    document = json.loads(INCOMPLETE[name].read_text(encoding="utf-8"))

    assert [] == follows(name, document)
    assert '"diverged"' in json.dumps(document)


def test_a_schema_says_no() -> None:
    """It rejects an unknown field, another version, and a text in place of a number."""
    report = json.loads(REPORTS[0].read_text(encoding="utf-8"))

    for wrong in ({"more": 1}, {"schema_version": 2}, {"seconds": "1"}, {"steps": {"run": 1}}):
        assert follows("run", {**report, **wrong})


def test_there_is_no_schema_of_nothing() -> None:
    """Each belongs to a command."""
    assert set(COMMANDS) == {path.name.removesuffix(".schema.json") for path in FOLDER.iterdir()}
