"""Trials as steps: what they leave, and which of them is the best."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Place, call

TUNED = """\
version: 1
model: {name: resnet8, width: 4}
dataset: digits
budget: 0.9
target: {device: cpu, threads: 1}
irp: {rounds: 2, per_round: 0.5}
scorer: {name: mlp, steps: 20}
training: {epochs: 1, batch: 128, lr: 0.05, crop: 1, flip: false, precision: float32}
compare: []
controls: []
emit: []
"""


def results(place: Place, operation: str) -> list[dict[str, Any]]:
    """What the steps of one operation found, trials in order."""
    paths = (place.cache / "artifacts" / operation).glob("*/result.json")
    found: list[dict[str, Any]] = [json.loads(path.read_text()) for path in paths]
    return sorted(found, key=lambda result: result.get("number", 0))


def test_a_trial_stops_early_and_is_not_the_best(
    here: Place, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It has the mean of fewer folds; the report tells how many there were, and the exported study marks them."""
    import optuna

    (here.folder / "tuned.yaml").write_text(TUNED + "tuning: {trials: 10, pruner: median, sampler: random}\n")
    ended = call(capsys, "run tuned.yaml")
    trials, (tuned,) = results(here, "trial"), results(here, "tune")
    stopped = [trial for trial in trials if trial["stopped"]]
    exported = call(capsys, f"export {tmp_path / 'study.db'}")
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'study.db'}")

    assert (0, 0) == (ended.code, exported.code), ended.err + exported.err
    assert 0 < len(stopped) < 6  # never the first five, by which the median is known
    for trial in trials:
        assert (trial in stopped) == (len(trial["folds"]) < 3)
        assert pytest.approx(sum(trial["folds"]) / len(trial["folds"])) == trial["value"] == trial["overall"]
    assert max((t for t in trials if t not in stopped), key=lambda t: t["value"]) == tuned["best"]
    assert f"best of 10 trials, {len(stopped)} stopped early, " in " ".join(ended.out.split())
    assert [trial["stopped"] for trial in trials] == [trial.state.name == "PRUNED" for trial in study.trials]
    assert [trial["folds"] for trial in trials] == [[*trial.intermediate_values.values()] for trial in study.trials]
