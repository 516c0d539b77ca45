"""Names with signs that mean something elsewhere: in paths, URLs, globs, shells and folders."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from autosparse.report.folder import open_folder
from autosparse.text import shell_word
from tests.conftest import Workspace, call
from tests.sealing import edit

FOLDER = "a b#c?d%2Fe[1]{f}'g$h"
SPEC = """\
version: 1
model: lenet
dataset: {name: digits, images_per_class: 10}
budget: [0.5]
method: erk
compare: []
controls: []
training: {epochs: 1, batch: 50, crop: 0, flip: false, precision: float32}
emit: [{name: hub, license: a/b%c}, {name: hub, license: a/d}]
target: {device: cpu, threads: 1}
"""


@pytest.fixture
def odd(here: Workspace, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory and a spec with such names."""
    folder = here.folder / FOLDER
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(folder / "cache"))
    (folder / "-s%2F[x] y.yaml").write_text(SPEC)
    return folder


def commands(text: str) -> list[str]:
    """The commands of autosparse that a text names."""
    return re.findall(r"`autosparse ([^`]*)`", text)


@pytest.mark.slow
def test_a_run_keeps_to_its_names(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a saved plan to emitted models and a page; commands in hints can be pasted into a shell."""
    planned = call(capsys, f"plan ./{shlex.quote('-s%2F[x] y.yaml')} --out 'p l?.json'")
    (pasted,) = commands(planned.err)
    assert 0 == planned.code, planned.err
    ended = call(capsys, f"{pasted} --json")
    report = ended.json
    page = call(capsys, "report --html 'r#?.html'")

    assert (0, 0) == (ended.code, page.code), ended.err
    assert "runs/-s%2F[x] y-1" == report["run"]
    assert {"hub-a/b%c": "hub-a%2Fb%25c", "hub-a/d": "hub-a%2Fd"} == {
        model["format"]: Path(model["path"]).name for model in report["emitted"]
    }
    assert all((Path(model["path"]) / "README.md").is_file() for model in report["emitted"])
    assert (odd / "r#?.html").is_file()
    assert {"cache", "p l?.json", "r#?.html", "runs", "-s%2F[x] y.yaml"} == {path.name for path in odd.iterdir()}
    refused = call(capsys, "validate 'p l?.json'")
    assert ["run 'p l?.json'"] == commands(refused.err)


def test_a_path_is_one_word_of_a_shell() -> None:
    """And no option."""
    assert "digits.yaml" == shell_word(Path("digits.yaml"))
    assert "'my spec.yaml'" == shell_word("my spec.yaml")
    assert ["./-x $y.yaml"] == shlex.split(shell_word("-x $y.yaml"))


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/b"])
def test_a_plan_whose_name_is_a_path_stays_within_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A saved plan has the name that its file says."""
    monkeypatch.chdir(tmp_path)
    folders = [
        open_folder(name, {"name": name}, digest=digest, spec=None, resolved={}, out=None) for digest in ("1", "2", "1")
    ]

    assert [f"{name.replace('/', '_')}-{number}" for number in (1, 2, 1)] == [folder.name for folder in folders]
    assert {"runs"} == {str(folder.parent) for folder in folders}
    assert ["runs"] == [path.name for path in tmp_path.iterdir()]


def test_a_hint_names_the_run_as_a_word(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """A network with many layers shows them on request: the hint is a command."""
    shutil.copytree(Path(__file__).parents[2] / "fixtures" / "runs" / "digits-1", "my run")
    path = Path("my run/report.json")
    report = json.loads(path.read_text(encoding="utf-8")) | {"run": "my run"}
    for profile in report["profiles"]:
        profile["layers"] = profile["layers"][:1] * 20
    edit(path, lambda _: report)
    shown = call(capsys, "report 'my run'").out

    assert "report 'my run' --wide" in commands(shown)
