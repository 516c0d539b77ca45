"""Selections that fill the layer quotas of a method with a scorer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autosparse.planning.model import Plan
from autosparse.spec import selection_of
from tests.plans import compiled

BASE = (
    "version: 1\nmodel: {name: resnet8, width: 4}\ndataset: digits\nbudget: 0.9\nmethod: learned\n"
    "irp: {rounds: 3, per_round: 0.5}\ntuning: {trials: 2}\ntraining: {epochs: 2, lr: 0.1}\ncompare: []\nemit: []\n"
)


def plan(*overrides: str) -> Plan:
    """The plan of the spec above."""
    Path("spec.yaml").write_text(BASE)
    return compiled("spec.yaml", *overrides)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def filling(planned: Plan, method: str = "learned") -> Any:
    """The selection of a method's masks."""
    (step,) = (step for step in planned.of("mask") if step.name.split("/")[1] == method)
    return step.options["method"]["selection"]["name"]


@pytest.mark.parametrize(("scorer", "expected"), [("mlp", "top"), ("paper", "top"), ("quota", "shuffle")])
def test_a_kind_of_scorer_has_its_own(scorer: str, expected: str) -> None:
    """Quotas alone rank no weights; others keep the highest scores. A written selection is used."""
    assert expected == filling(plan(f"scorer={scorer}"))
    assert "balanced" == filling(plan(f"scorer={scorer}", "method={criterion: learned, selection: balanced}"),
                                 "learned+balanced")  # fmt: skip


def test_a_shuffle_of_random_weights_is_left_out() -> None:
    """It would be the same network: the control exists only if it differs."""
    assert {"learned"} == {cell.method for cell in plan("scorer=quota").cells} - {"learned.layer_mean"}
    assert "learned.shuffle" in {cell.method for cell in plan("scorer=mlp").cells}


def test_trials_choose_it_where_they_try_several() -> None:
    """Then the plan cannot know it; a mask search next to it keeps its highest scores all the same."""
    tuning = ("tuning.proxy={weight: 0.5}", "tuning.selections=[top, shuffle]", "scorer=quota")
    planned = plan(*tuning, "compare=[{preset: learned, horizon: 50%}]")

    assert "tuned" == filling(planned)
    assert "top" == filling(planned, "learned+50pct")
    assert "shuffle" == filling(plan(*tuning, "tuning.trials=0"))


def test_a_folder_says_what_it_was_tuned_with() -> None:
    """Or it is that of its kind."""
    tuned = {"name": "sampled", "version": 1, "options": {"temperature": 0.3}}

    assert {"name": "sampled", "temperature": 0.3} == selection_of({"name": "quota", "selection": tuned})
    assert {"name": "shuffle"} == selection_of({"name": "quota"})
    assert {"name": "top"} == selection_of({"name": "mlp"})
