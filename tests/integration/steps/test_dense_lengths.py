"""Dense networks of several lengths: the reference curve of accuracy against cost, and no part of the comparison."""

from __future__ import annotations

from pathlib import Path

import pytest

from autosparse.console.report import show_report
from autosparse.errors import SpecError
from autosparse.report.cells import columns_of, frontier, reference_points
from autosparse.report.schema import Report
from autosparse.spec import load_spec
from tests.conftest import Workspace
from tests.plans import compiled

SPEC = """\
version: 1
model: {name: resnet8, width: 4}
dataset: digits
budget: 0.5
method: igq
target: {device: cpu, threads: 1}
training: {epochs: 4, batch: 64, lr: 0.1, crop: 0, flip: false, precision: float32}
compare: [width, dense]
dense_lengths: [0.5, 2.0]
controls: []
emit: []
seeds: [0, 1]
"""


def test_lengths_are_a_curve(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Costs are the lengths; methods keep their columns and their marks; a smaller width costs less than a training."""
    (workspace.folder / "spec.yaml").write_text(SPEC, encoding="utf-8")
    ended = workspace.run("run", "spec.yaml", "--json", "--quiet")
    assert 0 == ended.code, ended.err
    report = Report.of({name: part for name, part in ended.json.items() if name != "content_sha256"})

    assert [0.5, 1.0, 2.0] == [one.length for one in report.references]
    assert [0.5, 1.0, 2.0] == [point.trainings for point in reference_points(report)]
    assert [2, 2, 2] == [one.seeds for one in report.references]
    assert ["0.5"] == [*columns_of(report)]
    assert {"igq", "width", "dense"} == {result.method for result in report.results}
    assert all(point.trainings < 0.6 for point in frontier(report, "0.5") if point.method == "width")
    show_report(report, ["frontier"])
    shown = capsys.readouterr().out
    assert all(f"dense, {length}x" in shown for length in ("0.5", "1", "2"))


def test_lengths_add_trainings_alone(tmp_path: Path) -> None:
    """No key of the comparison changes; another length of the dense network is its training by a longer recipe."""
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    plan, plain = compiled(tmp_path / "spec.yaml"), compiled(tmp_path / "spec.yaml", "dense_lengths=[]")

    assert {step.key for step in plain.steps.values()} < {step.key for step in plan.steps.values()}
    longer = compiled(tmp_path / "spec.yaml", "dense_lengths=[]", "training.epochs=8")
    assert longer.steps["train/dense/seed1"].key == plan.steps["train/dense-2x/seed1"].key


@pytest.mark.parametrize("written", ["[0]", "[-1.0]", "[2.0, 2.0]", "two", "[5000.0]", "[1]"])
def test_a_length_is_a_positive_number(written: str, tmp_path: Path) -> None:
    """Each once, at most a thousand."""
    (tmp_path / "spec.yaml").write_text(SPEC.replace("[0.5, 2.0]", written), encoding="utf-8")
    with pytest.raises(SpecError, match="dense_lengths"):
        load_spec(tmp_path / "spec.yaml")


def test_lengths_that_are_close_are_different(tmp_path: Path) -> None:
    """Each has its steps, whatever the digits; and none with a choice of epochs, or beyond the longest training."""
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    plan = compiled(tmp_path / "spec.yaml", "dense_lengths=[0.1234567, 0.12345671]")
    assert 4 == len(plan.references)
    for wrong in ("compare={methods: [dense], epochs: [1, 2]}", "training.epochs=99000"):
        with pytest.raises(SpecError, match="dense_lengths"):
            load_spec(tmp_path / "spec.yaml", overrides=[wrong])
