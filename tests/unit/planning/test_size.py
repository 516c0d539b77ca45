"""The size of a plan is counted before its steps exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from autosparse.backends import this_machine
from autosparse.errors import InvalidValue
from autosparse.planning import size
from autosparse.planning.builder import Builder
from autosparse.planning.compile import compile_plan
from autosparse.spec import Spec, load_spec, resolve


def spec_of(folder: Path, *overrides: str) -> Spec:
    """Return a resolved spec of digits with overrides."""
    path = folder / "digits.yaml"
    path.write_text("{version: 1, model: lenet, dataset: digits, irp: {rounds: 3}, tuning: {trials: 3}}")
    return resolve(load_spec(path, overrides=overrides).spec, this_machine())


@pytest.mark.parametrize(
    ("overrides", "path", "numbers"),
    [
        ([f"seeds={[*range(1000, 4000)]}"], "seeds", "3,000 `seeds` x 3 budgets x 9 methods and controls"),
        (["irp.rounds=1000", f"irp.seeds={[*range(100, 200)]}"], "irp.rounds", "1,000 `irp.rounds` x 100 sources"),
        (["irp.rounds=1000", "tuning.trials=100000"], "tuning.trials", "100,000 `tuning.trials`"),
        (["tuning.trials=3000"], "tuning.trials", "3,000 `tuning.trials`, each of which reads"),
    ],
)
def test_a_plan_of_too_many_steps_is_refused_before_any_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], path: str, numbers: str
) -> None:
    """The error names the numbers that multiply, and one of them by its path."""
    spec = spec_of(tmp_path, *overrides)
    monkeypatch.setattr(Builder, "add", lambda *_, **__: pytest.fail("no step may be made"))

    with pytest.raises(InvalidValue) as caught:
        compile_plan(spec, "digits")

    assert path == caught.value.path
    assert numbers in caught.value.message


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["seeds=[0,1,2]", "budget=[0.9,0.99]", "sanity={seeds: 3}"],
        ["compare=[irp, snip]", "irp.rounds=20", "irp.seeds=[100,101]"],
        ["tuning.trials=40", "tuning.parallel=4", "irp.models=[lenet, mlp]"],
    ],
)
def test_the_count_is_close_to_the_plan(tmp_path: Path, overrides: list[str]) -> None:
    """It is no smaller, and at most twice as large."""
    spec = spec_of(tmp_path, *overrides)
    parts = [*size._parts(spec)]
    steps = compile_plan(spec, "digits").steps.values()
    inputs = sum(len(step.inputs) for step in steps)

    assert len(steps) <= sum(part.steps for part in parts) + 4 <= 2 * len(steps)
    assert inputs <= sum(part.inputs for part in parts) + 20 <= 3 * inputs


@pytest.mark.parametrize("per_round", ["1e-9", "1e-310"])
@pytest.mark.parametrize("share", ["all", "remaining"])
def test_rounds_of_the_oracle_have_a_limit(tmp_path: Path, per_round: str, share: str) -> None:
    """Their number follows from the share that a round removes."""
    overrides = ["compare=[irp]", "irp.rounds=3", "scorer={pretrained: cifar-v1}"]
    spec = spec_of(tmp_path, *overrides, f"irp.per_round={per_round}", f"irp.per_round_of={share}")

    with pytest.raises(InvalidValue, match="takes more than 1,000 rounds to sparsity") as caught:
        compile_plan(spec, "digits")

    assert "irp.per_round" == caught.value.path
