"""Speed as `bench` measures it, next to a standard loop in a process."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch

from autosparse.backends import Placement, this_machine
from autosparse.core.training.recipe import Recipe
from autosparse.cost.bench import measure_speed
from autosparse.cost.fit import fit_plan
from autosparse.errors import StepError
from autosparse.measure.probe import made_up_images
from autosparse.spec import load_spec
from autosparse.store import Store, open_index
from tests.plans import DIGITS, known_rates

IMAGES = made_up_images(24, (3, 8, 8), 4, torch.device("cpu"))
RECIPE = Recipe(epochs=3, batch=24, lr=0.05, crop=0, flip=False, precision="float32", schedule="one_cycle")

SMALLER = ("model={name: resnet8, width: 4}", "training.batch=32", "target.threads=1")


@pytest.mark.slow
def test_what_is_measured(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every network in its batches, in its own precision and in float32; the spec's scorer and the paper's."""
    monkeypatch.setattr("autosparse.cost.bench._MOMENT", 0.01)
    spec = load_spec(DIGITS, overrides=[*SMALLER, "training.precision=bfloat16"]).spec
    machine, known = replace(this_machine(), devices=("cpu",)), known_rates()
    fitted = fit_plan(spec, machine, "digits", store, open_index(store), calibration=known)
    before = torch.random.get_rng_state()
    lines: list[str] = []
    speeds = measure_speed(fitted.plan, fitted.price, Placement("cpu", 1), rounds=2, say=lines.append)

    assert torch.equal(before, torch.random.get_rng_state())
    assert {"bfloat16", "float32"} == set(speeds.peaks)
    assert [("resnet8", "bfloat16"), ("resnet8", "float32")] == [
        (item.model, item.precision) for item in speeds.trained
    ]
    for item in speeds.trained:
        assert 2 == len(item.rates) == len(item.plain)
        assert min(item.rates) / max(item.plain) <= item.ratio <= max(item.rates) / min(item.plain)
        assert item.share == pytest.approx(item.operations / speeds.peaks[item.precision])
    assert {"mlp", "paper"} == set(speeds.scored)
    assert speeds.scored["mlp"] > speeds.scored["paper"] > 0
    assert ["training resnet8 in batches of 32", "scoring resnet8 with `mlp`", "scoring resnet8 with `paper`"] == lines


def test_a_plain_loop_that_ends_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the code that its process ended with, and nothing is waited for."""
    spec = load_spec(DIGITS, overrides=["target.threads=1"]).spec
    fitted = fit_plan(spec, this_machine(), "digits", store, open_index(store), calibration=known_rates())
    monkeypatch.setattr("autosparse.cost.bench.sys.executable", shutil.which("false"))

    with pytest.raises(StepError, match="the standard loop's process exited with code 1"):
        measure_speed(fitted.plan, fitted.price, Placement("cpu", 1), rounds=1, say=list[str]().append)
