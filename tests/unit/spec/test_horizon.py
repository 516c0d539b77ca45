"""A horizon is how many training steps may be spent on masks; the plan knows how many a share of a training is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autosparse.errors import SpecError
from autosparse.planning.compile import compile_plan
from autosparse.planning.model import Plan
from autosparse.spec import load_spec, open_settings, resolve, with_settings
from tests.plans import MACHINE

BASE = "version: 1\nmodel: {name: resnet8, width: 4}\ndataset: digits\nbudget: 0.9\ntraining: {epochs: 2}\nemit: []\n"
STEPS = 2 * 10  # of a training: 1,197 images in batches of 128, twice


def spec_of(tmp_path: Path, method: str, compare: str = "[]") -> Any:
    """A spec on digits with a method, as written."""
    path = tmp_path / "s.yaml"
    path.write_text(f"{BASE}method: {method}\ncompare: {compare}\n")
    return load_spec(path).spec


def plan_of(spec: Any) -> Plan:
    """Its plan."""
    return compile_plan(resolve(spec, MACHINE), "s")


def schedule_of(plan: Plan, method: str) -> dict[str, Any]:
    """The schedule that the mask of a method is made by."""
    step = next(step for step in plan.of("mask") if step.name.startswith(f"mask/{method}/"))
    schedule: dict[str, Any] = step.options["method"]["schedule"]
    return schedule


@pytest.mark.parametrize(
    ("written", "name", "steps"),
    [("300", "learned+300steps", 300), ("50%", "learned+50pct", 10), ("0.1%", "learned+0.1pct", 1)],
)
def test_steps_and_shares(tmp_path: Path, written: str, name: str, steps: int) -> None:
    """Whole steps are taken as they are, a share is of one training of the network, and both search from the scores."""
    plan = plan_of(spec_of(tmp_path, f"{{horizon: {written}}}"))

    assert schedule_of(plan, name)["name"] == "search"
    assert schedule_of(plan, name)["options"]["steps"] == steps
    assert plan.spec.method.criterion.name == "learned"
    assert STEPS // 2 == 10


@pytest.mark.parametrize("written", ["0", "0%"])
def test_no_horizon_is_one_shot(tmp_path: Path, written: str) -> None:
    """Without a step to spend, the method prunes at once and shares the artifacts of the one that never had any."""
    searched, plain = (plan_of(spec_of(tmp_path, method)) for method in (f"{{horizon: {written}}}", "learned"))

    assert {step.key for step in searched.of("mask")} == {step.key for step in plain.of("mask")}


def test_a_search_keeps_its_options(tmp_path: Path) -> None:
    """A method that searches already searches for as long as its horizon, its other options as written."""
    plan = plan_of(spec_of(tmp_path, "{preset: gem_miner, horizon: 7}"))
    options = schedule_of(plan, "gem_miner+7steps")["options"]

    assert (options["steps"], options["train_weights"], options["quotas"]) == (7, False, "free")


def test_compared_methods_have_horizons(tmp_path: Path) -> None:
    """Every method of a comparison may have one: together they are the curve of accuracy against cost."""
    compare = "[erk, {preset: erk, horizon: 25%}, {criterion: snip, horizon: 5}]"
    plan = plan_of(spec_of(tmp_path, "snip", compare))

    assert schedule_of(plan, "erk+25pct")["options"]["steps"] == 5
    assert schedule_of(plan, "snip+5steps")["options"]["steps"] == 5
    assert schedule_of(plan, "erk")["name"] == "one_shot"


def test_auto_is_what_time_allows(tmp_path: Path) -> None:
    """`auto` is half of a training, and open to be lowered for every kind of scorer."""
    spec = spec_of(tmp_path, "{horizon: auto}")

    assert open_settings(spec)["method.horizon"] == 50
    assert schedule_of(plan_of(spec), "learned+auto")["options"]["steps"] == 10
    lowered = plan_of(with_settings(spec, {"method.horizon": 20}))
    assert schedule_of(lowered, "learned+auto")["options"]["steps"] == 4
    assert schedule_of(plan_of(with_settings(spec, {"method.horizon": 0})), "learned+auto")["name"] == "one_shot"


def test_a_resolved_spec_makes_the_same_keys(tmp_path: Path) -> None:
    """The spec that `render` writes compiles to the same plan."""
    plan = plan_of(spec_of(tmp_path, "{horizon: 50%}", "[{preset: erk, horizon: auto}]"))
    again = compile_plan(plan.spec, "s")

    assert plan.digest == again.digest


@pytest.mark.parametrize(
    ("method", "printed", "hint"),
    [
        ("{horizon: 0.1}", "must be whole steps, a share of one training such as 10%, or auto, but is 0.1", "`10%`"),
        ("{horizon: -1}", "must be at least 0 but is -1", ""),
        ("{horizon: soon}", "or auto, but is 'soon'", "such as 300"),
        ("{horizon: true}", "or auto, but is true", "such as 300"),
        ("{horizon: [1]}", "or auto, but is [1]", "such as 300"),
        ("{horizon: 1e3}", "or auto, but is 1000.0", "`1000`"),
        ("{horizon: 1000000000}", "must be at most 10000000 but is 1000000000", ""),
        ("{horizon: 2000%}", "must be at most 1000% of one training but is 2000%", ""),
        ("{preset: synflow, horizon: 10}", "cannot be given to a method that prunes in rounds", "`schedule: one_shot`"),
        ("{name: learned, horizon: 10}", "cannot be named 'learned'", ""),
    ],
)
def test_what_is_no_horizon(tmp_path: Path, method: str, printed: str, hint: str) -> None:
    """A mistake is reported with its value and the remedy."""
    with pytest.raises(SpecError) as caught:
        spec_of(tmp_path, method)

    message, given = caught.value.problems[-1]
    assert printed in message
    assert hint in (given or "")


def test_two_rounds_teach_quotas_nothing(tmp_path: Path) -> None:
    """A scorer that learns from networks with less than half of their weights is refused rounds that leave more."""
    with pytest.raises(SpecError) as caught:
        spec_of(tmp_path, "learned\nscorer: quota\nirp: {rounds: 2}")

    assert "leaves 56 % of the weights, but scorer `quota` learns from rounds that leave 50 %" in str(caught.value)
    assert spec_of(tmp_path, "learned\nscorer: quota\nirp: {rounds: 3}").scorer.name == "quota"
    assert spec_of(tmp_path, "snip\nscorer: quota\nirp: {rounds: 2}").irp.rounds == 2
