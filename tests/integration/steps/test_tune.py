"""Trials as steps: what they leave, and which of them is the best."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Workspace, call

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


def results(workspace: Workspace, operation: str) -> list[dict[str, Any]]:
    """Return the results of one operation's steps, trials in order."""
    paths = (workspace.cache / "artifacts" / operation).glob("*/result.json")
    document: list[dict[str, Any]] = [json.loads(path.read_text()) for path in paths]
    return sorted(document, key=lambda result: result.get("number", 0))


@pytest.mark.slow
def test_a_trial_stops_early_and_is_not_the_best(
    here: Workspace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It has the mean of fewer folds; the report shows their number, and the exported study marks them."""
    import optuna

    (here.folder / "tuned.yaml").write_text(TUNED + "tuning: {trials: 10, pruner: median, sampler: random}\n")
    ended = call(capsys, "run tuned.yaml")
    trials, (tuned,) = results(here, "trial"), results(here, "tune")
    stopped = [trial for trial in trials if trial["stopped"]]
    exported = call(capsys, f"export --study {tmp_path / 'study.db'}")
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'study.db'}")

    assert (0, 0) == (ended.code, exported.code), ended.err + exported.err
    assert 0 < len(stopped) < 6  # never the first five, by which the median is known
    for trial in trials:
        assert (trial in stopped) == (len(trial["folds"]) < 3)
        assert pytest.approx(sum(trial["folds"]) / len(trial["folds"])) == trial["value"] == trial["overall"]
    assert max((t for t in trials if t not in stopped), key=lambda t: t["value"]) == tuned["best"]
    assert f"best of 10 trials, {len(stopped)} stopped early, " in " ".join(call(capsys, "report --wide").out.split())
    assert [trial["stopped"] for trial in trials] == [trial.state.name == "PRUNED" for trial in study.trials]
    assert [trial["folds"] for trial in trials] == [[*trial.intermediate_values.values()] for trial in study.trials]


@pytest.mark.slow
def test_a_proxy_training_is_part_of_a_trials_value(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """By its weight, unless the trial was stopped before; the network is one that the scorer knows from then on."""
    tuning = "tuning: {trials: 8, pruner: median, sampler: random, proxy: {weight: 0.25, sparsity: 0.9}}\n"
    (here.folder / "tuned.yaml").write_text(TUNED + tuning)
    ended = call(capsys, "run tuned.yaml --json")
    trials, (tuned,) = results(here, "trial"), results(here, "tune")
    scorer = ended.json["scorer"]
    about = json.loads((Path(scorer["path"]) / "scorer.json").read_text())

    assert 0 == ended.code, ended.err
    assert any(trial["stopped"] for trial in trials)
    for trial in trials:
        assert ("validation_accuracy" in trial) != trial["stopped"]
        share = 0.25 if "validation_accuracy" in trial else 0.0
        mixed = (1 - share) * trial["overall"] + share * trial.get("validation_accuracy", 0) / 100
        assert pytest.approx(mixed) == trial["value"]
    assert max((t for t in trials if not t["stopped"]), key=lambda t: t["value"]) == tuned["best"]
    assert tuned["best"]["validation_accuracy"] == scorer["proxy"]
    assert 2 == len(about["learned_from"])
    assert "its proxy reaches" in " ".join(call(capsys, "report --wide").out.split())


@pytest.mark.parametrize("method", ["learned", "{preset: learned, schedule: {name: linear, rounds: 2, steps: 3}}"])
def test_a_proxy_is_what_the_plan_would_make_of_it(
    here: Workspace, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    """Pruned and trained as the comparison is, with the scorer that the trial's settings give."""
    text = TUNED + f"method: {method}\n"
    (here.folder / "proxy.yaml").write_text(text + "tuning: {trials: 1, proxy: {sparsity: 0.9}}\n")
    (here.folder / "compared.yaml").write_text(text + "tuning: {trials: 0}\nseeds: [200]\n")
    proxy = call(capsys, "run proxy.yaml --json --only tune")
    compared = call(capsys, "run compared.yaml --json")
    (tuned,) = (result for result in results(here, "tune") if "best" in result)

    assert (0, 0) == (proxy.code, compared.code), proxy.err + compared.err
    assert compared.json["results"][0]["validation_accuracy"] == tuned["best"]["validation_accuracy"]


@pytest.mark.slow
def test_the_best_selection_stays_with_the_scorer(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """No selection is better with the defaults; masks are filled by it, those of a plan that takes the scorer too."""
    (here.folder / "tuned.yaml").write_text(
        TUNED
        + "method: {name: chosen, preset: learned, selection: tuned}\n"
        + "tuning: {trials: 4, proxy: {weight: 1, sparsity: 0.9}, selections: [top, shuffle, balanced]}\n"
    )
    ended = call(capsys, "run tuned.yaml --json")
    trials, (tuned,) = results(here, "trial"), results(here, "tune")
    best = tuned["selection"]["name"]
    (here.folder / "given.yaml").write_text(
        TUNED.split("irp:")[0]
        + TUNED[TUNED.index("training:") :].replace(
            "compare: []", f"compare: [{{criterion: learned, selection: {best}}}]"
        )
        + "method: {name: chosen, preset: learned, selection: tuned}\n"
        + f"scorer: {{pretrained: {ended.json['scorer']['path']}}}\n"
    )
    given = call(capsys, "run given.yaml --json")
    rows = [[row[n] for n in ("kept", "effective_sparsity", "test_accuracy")] for row in given.json["results"]]

    assert (0, 0) == (ended.code, given.code), ended.err + given.err
    assert ["top", "shuffle", "balanced"] == [trial["settings"]["selection"] for trial in trials[:3]]
    assert best == trials[tuned["best"]["number"]]["settings"]["selection"]
    assert tuned["best"]["value"] == max(trial["value"] for trial in trials)
    assert "selection" not in tuned["options"]
    assert rows[0] == rows[1] == [ended.json["results"][0][n] for n in ("kept", "effective_sparsity", "test_accuracy")]
