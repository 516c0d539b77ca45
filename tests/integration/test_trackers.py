"""Trackers of whole runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from autosparse.trackers import trackers
from tests.conftest import Workspace, call
from tests.unit.test_trackers import Library

QUICK = """\
version: 1
model: {name: resnet8, width: 4}
dataset: {name: digits, images_per_class: 20}
budget: [0.8]
training: {epochs: 1, batch: 64}
method: erk
compare: []
controls: []
emit: []
target: {threads: 1, workers: 1}
"""


def test_a_run_goes_on_without_its_trackers(
    here: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing packages are named with the command that installs them; a plan's keys do not depend on trackers."""
    for name in ("torch.utils.tensorboard", "mlflow", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)
    Path("quick.yaml").write_text(QUICK)
    asked = "quick.yaml --set track=[tensorboard,mlflow,wandb]"
    plain = call(capsys, "plan quick.yaml --json").json["steps"]
    planned = call(capsys, f"plan {asked} --json").json["steps"]
    ended = call(capsys, f"run {asked} --json")

    assert [step["key"] for step in plain] == [step["key"] for step in planned]
    assert 0 == ended.code
    for name in trackers.names:
        assert f"tracker `{name}` is disabled: ModuleNotFoundError" in ended.err
    assert 3 == ended.err.count("`pip install 'autosparse[track]'` installs it")


def test_trackers_get_what_is_reused_too(
    here: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of which another spec has made everything has the same numbers."""
    made, reused = Library(), Library()
    Path("quick.yaml").write_text(QUICK + "track: wandb\n")
    made.install(monkeypatch)
    assert 0 == call(capsys, "run quick.yaml --json").code
    reused.install(monkeypatch)
    assert 0 == call(capsys, "run quick.yaml --out again --json").code

    assert sorted(made.logged) == sorted(reused.logged)
    assert any(name.startswith("evaluate/erk/0.8/seed/test_accuracy") for name, *_ in made.logged)
    assert [0] == made.ended == reused.ended
