"""Saved plans: their content, that they run as planned, and which changes are refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time

import pytest

from autosparse.planning.saved import read_plan, spec_of
from autosparse.spec import load_spec
from tests.conftest import SMALL, Ended, Workspace, call
from tests.sealing import replace_text

USER_NETWORK = """\
import torch

def build(input_shape, classes, width=4):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, width), torch.nn.Linear(width, classes))
"""
FAST = "method: random\ncompare: [dense]\ncontrols: []\nbudget: [0.5]\nemit: []\n"
ON_OWN = f"model: net.py:build\ndataset: digits\n{FAST}training: {{epochs: 1}}\ntarget: {{device: cpu, threads: 1}}\n"


@pytest.fixture
def project(workspace: Workspace) -> Workspace:
    """A directory with a spec of a user-defined network in a subfolder."""
    (workspace.folder / "project").mkdir()
    (workspace.folder / "project" / "net.py").write_text(USER_NETWORK)
    (workspace.folder / "project" / "mine.yaml").write_text(ON_OWN)
    return workspace


def save(workspace: Workspace, *arguments: str, out: str = "p.json") -> dict[str, object]:
    """Save a plan and give what the file holds."""
    ended = workspace.run("plan", *arguments, "--out", out)
    assert ended.code == 0, ended.err
    assert f"autosparse run {out}" in ended.err
    document: dict[str, object] = json.loads((workspace.folder / out).read_text())
    return document


@pytest.mark.slow
def test_a_saved_plan_is_the_same_text_every_time(project: Workspace) -> None:
    """The file holds no time and no path that the spec does not hold, and paths relative to itself."""
    saved = save(project, "project/mine.yaml")
    text = (project.folder / "p.json").read_text()
    save(project, "project/mine.yaml")

    assert text == (project.folder / "p.json").read_text()
    assert str(project.folder) not in text
    assert ("autosparse plan", "mine", [0.5]) == (saved["kind"], saved["spec"], saved["budgets"])
    assert ["model.name", "irp.model.name"] == saved["relative"]


@pytest.mark.slow
def test_a_saved_plan_runs_from_another_directory(project: Workspace) -> None:
    """Paths in it are meant relative to its file, and its steps are those that the spec has."""
    save(project, "project/mine.yaml")
    (project.folder / "elsewhere").mkdir()
    (project.folder / "moved").mkdir()
    for name in ("project", "p.json"):  # together, they can be moved
        shutil.move(project.folder / name, project.folder / "moved" / name)
    ended = Workspace(project.folder).run("run", "moved/p.json", "--json")
    again = project.run("plan", "moved/project/mine.yaml", "--detailed-exitcode")

    assert 0 == ended.code, ended.err
    assert "mine" == ended.json["spec"]
    assert 0 == again.code, again.out
    assert not (project.folder / ended.json["run"] / "spec.yaml").exists()


def test_a_saved_plan_counts_as_its_spec(project: Workspace) -> None:
    """However it is named, a spec and its saved plans are one user of an IRP."""
    save(project, "project/../project/mine.yaml")
    saved = read_plan(project.folder / "p.json")
    assert saved is not None
    loaded = load_spec(project.folder / "project" / ".." / "project" / "mine.yaml")

    assert str((project.folder / "project" / "mine.yaml").resolve()) == loaded.identity
    assert loaded.identity == spec_of(saved, project.folder / "p.json").identity


def test_names_that_are_not_text_are_kept(project: Workspace) -> None:
    """A folder's name may hold any bytes."""
    folder = project.folder / os.fsdecode(b"caf\xe9")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes only text")
    (folder / "mine.yaml").write_text(ON_OWN.replace("net.py:build", "lenet"))
    assert 0 == project.run("plan", os.fsdecode(b"caf\xe9/mine.yaml"), "--out", "p.json").code
    saved = read_plan(project.folder / "p.json")

    assert saved is not None
    assert str(folder.resolve() / "mine.yaml") == spec_of(saved, project.folder / "p.json").identity


@pytest.mark.slow
def test_less_work_than_planned_is_fine(finished: tuple[Workspace, Ended], workspace: Workspace) -> None:
    """A plan saved before a run reuses its steps after it, and its run is the spec's."""
    saved = save(workspace, "small.yaml")
    shutil.copytree(finished[0].cache, workspace.cache, dirs_exist_ok=True)
    ended = workspace.run("run", "p.json", "--json")

    assert saved["summary"]["run"] == ended.json["steps"]["reuse"]  # type: ignore[index]
    assert finished[1].json["results"] == ended.json["results"]
    assert ended.json["run"] == workspace.run("run", "small.yaml", "--json").json["run"]


@pytest.mark.slow
def test_more_work_than_planned_is_refused(finished: tuple[Workspace, Ended], workspace: Workspace) -> None:
    """When artifacts that were to be reused are gone, nothing is run and the first is named."""
    shutil.copytree(finished[0].cache, workspace.cache)
    save(workspace, "small.yaml")
    shutil.rmtree(workspace.cache / "artifacts" / "irp")
    ended = workspace.run("run", "p.json")

    assert 2 == ended.code
    assert (
        "`irp/seed100/round1` and 2 more were to be reused and are no longer in the cache: more work than planned"
        in ended.err
    )
    assert "" == ended.out
    assert not (workspace.cache / "artifacts" / "irp").exists()


@pytest.mark.slow
def test_own_code_that_changed_is_named(project: Workspace) -> None:
    """A plan whose own code is another by now is refused with the step and the option."""
    save(project, "project/mine.yaml")
    (project.folder / "project" / "net.py").write_text(USER_NETWORK + "\nanother = 1\n")
    ended = project.run("run", "p.json")

    assert 2 == ended.code
    assert "p.json has moved: `init/net.py:build/seed0`: model.sources.net.py " in ended.err
    assert "steps differ from the plan" in ended.err


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('"autosparse": "0.1.0"', '"autosparse": "0.0.9"', None),
        ('"key": "e1f4bb95', '"key": "00f4bb95', "`data/digits`: has another key"),
        ('"device": "cpu"', '"device": "cuda:7"', "p.json was planned for cuda:7: this machine has no device"),
        ('"per_round": 0.5', '"per_round": 0.6', "has moved: `irp/seed100/round1`: has another key; "),
        ('"resolved": {', '"resolved": {"sead": 1,', "does not accept: spec: unknown key `sead`"),
        ('"digest":', '"digist":', "is a saved plan that is damaged: digest: Field required"),
        ('"schema_version": 1', '"schema_version": 2', "in a form that 0.1.0 cannot read"),
    ],
)
def test_what_is_no_longer_so_is_told(
    here: Workspace, capsys: pytest.CaptureFixture[str], old: str, new: str, text: str | None
) -> None:
    """Another version alone is no harm; another key, device, spec or form is refused before anything runs."""
    assert 0 == call(capsys, "plan small.yaml --out p.json").code
    path = here.folder / "p.json"
    assert old in path.read_text()
    replace_text(path, old, new)
    ended = call(capsys, "plan p.json")  # which checks what a run checks

    assert (2 if text else 0) == ended.code, ended.err
    assert (text or "") in ended.err


def test_another_version_that_makes_other_keys_is_told(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """When keys differ and the version does, both versions are named."""
    assert 0 == call(capsys, "plan small.yaml --out p.json").code
    path = here.folder / "p.json"
    replace_text(path, '"0.1.0"', '"0.0.9"')
    replace_text(path, '"key": "e1f4bb95', '"key": "00f4bb95')

    assert "(saved by autosparse 0.0.9, this is 0.1.0)" in call(capsys, "run p.json").err


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("run p.json --budget 0.5", "a saved plan is run as it is: p.json takes no `--budget`"),
        ("run p.json --set training.lr=1", "takes no `--set`"),
        ("validate p.json", "p.json: it is a saved plan, not a spec"),
        ("render p.json", "`autosparse run p.json` runs it"),
        ("run report.json", "report.json is the report of a run, neither a spec nor a saved plan"),
        ("plan small.yaml --out small.yaml", "small.yaml exists and is not a saved plan"),
        ("plan small.yaml --out no/where.json", "no/where.json cannot be written: No such file"),
        ("plan small.yaml --out .", ". exists and is not a saved plan"),
        ("plan small.yaml --out ''", "exists and is not a saved plan"),
        ("run deep.json", "deep.json is a saved plan that is damaged"),
        ("plan small.yaml --explain tune --dot", "`--explain` shows one step"),
    ],
)
def test_mistakes_are_sentences(here: Workspace, capsys: pytest.CaptureFixture[str], line: str, text: str) -> None:
    """A saved plan where a spec is due, the reverse, and files that are neither end with 2."""
    assert 0 == call(capsys, "plan small.yaml --out p.json").code
    (here.folder / "deep.json").write_text('{"kind": "autosparse plan", "resolved": ' + 10**5 * "[")
    (here.folder / "report.json").write_text('{"schema_version": 1, "results": []}')
    ended = call(capsys, line)

    assert 2 == ended.code
    assert text in ended.err
    assert SMALL == (here.folder / "small.yaml").read_text()


@pytest.mark.slow
def test_an_interrupted_saved_plan_resumes(finished: tuple[Workspace, Ended], workspace: Workspace) -> None:
    """After Ctrl-C the same command goes on with the saved plan."""
    save(workspace, "small.yaml")
    process = workspace.start("run", "p.json")
    deadline = time.monotonic() + 120
    while not list((workspace.cache / "artifacts" / "irp").glob("*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    ended = workspace.run("run", "p.json", "--json")

    assert 130 == process.returncode
    assert "the same command resumes" in err
    assert 0 == ended.code
    assert finished[1].json["results"] == ended.json["results"]


def test_detailed_exit_codes(
    finished: tuple[Workspace, Ended], here: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 when there is nothing to run, 2 when there is, 1 on every error, a wrong option among them."""
    shutil.copytree(finished[0].cache, here.cache)
    (here.folder / "bad.yaml").write_text("model: resnet8\n")
    codes = [
        call(capsys, f"plan {line} --detailed-exitcode").code
        for line in ("small.yaml", "small.yaml --budget 0.7", "bad.yaml", "small.yaml --bugdet")
    ]

    assert [0, 2, 1, 1] == codes
    assert 0 == call(capsys, "plan small.yaml --budget 0.7").code
