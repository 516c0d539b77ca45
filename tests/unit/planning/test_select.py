"""Steps that `--only` and `--force` select."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from autosparse.backends import Machine
from autosparse.errors import UsageError
from autosparse.planning.compile import compile_plan
from autosparse.planning.model import Plan
from autosparse.planning.status import Status, select_steps
from autosparse.spec import load_spec, resolve
from tests.conftest import SMALL

MACHINE = Machine("a processor", cores=2, cpu_bfloat16=False, devices=("cpu",), cuda_bfloat16=False)


@pytest.fixture
def small(tmp_path: Path) -> Plan:
    """The plan of the small spec."""
    (tmp_path / "small.yaml").write_text(SMALL)
    return compile_plan(resolve(load_spec(tmp_path / "small.yaml").spec, MACHINE), "small")


def held(plan: Plan, present: Sequence[str] = ()) -> dict[str, Status]:
    """Statuses where some operations are in the store."""
    return {
        name: Status("reuse" if step.operation in present else "run", "as the test says")
        for name, step in plan.steps.items()
    }


def test_without_a_choice_every_step_is_meant(small: Plan) -> None:
    """A selection of nothing in particular is the whole plan, which it finishes."""
    chosen = select_steps(small, held(small))

    assert list(small.steps) == list(chosen.statuses)
    assert (frozenset(), frozenset(), True) == (chosen.forced, chosen.after, chosen.finishes)


def test_a_step_brings_what_it_needs(small: Plan) -> None:
    """All inputs of a missing step, in the plan's order; no step that it does not need."""
    chosen = select_steps(small, held(small), only=["irp/seed100/round2"])

    assert ["data/digits", "init/resnet8/seed100", "irp/seed100/round1", "irp/seed100/round2"] == list(chosen.statuses)
    assert not chosen.finishes


def test_what_is_there_needs_nothing(small: Plan) -> None:
    """The inputs of a step that is in the store are not made for it, though they are gone."""
    chosen = select_steps(small, held(small, ["scorer"]), only=["mask/learned/0.8/seed0"])

    assert {"data/digits", "init/resnet8/seed0", "scorer", "mask/learned/0.8/seed0"} == set(chosen.statuses)


def test_globs_name_several(small: Plan) -> None:
    """A star matches slashes; names and globs add up."""
    chosen = select_steps(small, held(small, ["data", "init", "mask"]), only=["train/random/*", "train/dense/seed0"])

    assert ["train/random/0.8/seed0", "train/random/0.9/seed0", "train/dense/seed0"] == [
        name for name in chosen.statuses if name.startswith("train")
    ]


def test_a_forced_step_is_run_with_what_is_after_it_in_mind(small: Plan) -> None:
    """It has the status `run`; the steps that depend on it, however far, are known."""
    present = sorted({step.operation for step in small.steps.values()})
    chosen = select_steps(small, held(small, present), force=["mask/snip/0.8/seed0"])

    assert ("run", "forced by `--force`") == (
        chosen.statuses["mask/snip/0.8/seed0"].status,
        chosen.statuses["mask/snip/0.8/seed0"].reason,
    )
    assert 1 == sum(status.status == "run" for status in chosen.statuses.values())
    assert {"train/snip/0.8/seed0", "evaluate/snip/0.8/seed0"} == chosen.after


def test_the_last_missing_steps_finish_a_plan(small: Plan) -> None:
    """A choice that leaves nothing to run is a whole run."""
    present = sorted({step.operation for step in small.steps.values()} - {"emit"})

    assert select_steps(small, held(small, present), only=["emit/*"]).finishes
    assert not select_steps(small, held(small, present), only=["train/*"]).finishes


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("train", "did you mean `train/*`?"),
        ("trian/*", "did you mean `trial/*`?"),
        ("evalaute/dense/*", "did you mean `evaluate/dense/*`?"),
        ("mask/randm/0.8/seed0", "did you mean `mask/random/0.8/seed0`?"),
        ("scorrer", "did you mean `scorer`?"),
        ("train/nothing/*", "`autosparse plan --steps` lists them"),
        ("", "`autosparse plan --steps` lists them"),
    ],
)
def test_a_name_of_no_step_is_refused(small: Plan, pattern: str, hint: str) -> None:
    """The error names the option and what may have been meant."""
    for option in ("only", "force"):
        with pytest.raises(UsageError) as caught:
            select_steps(small, held(small), **{option: [pattern]})

        assert f"`--{option} {pattern}` matches no step" == caught.value.message
        assert hint == caught.value.hint
