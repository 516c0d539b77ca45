"""Status and reason of every step: what an edit of a spec costs, and what the plan says of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from autosparse.errors import UsageError
from autosparse.planning.compile import compile_plan
from autosparse.planning.model import Plan
from autosparse.planning.status import Status, chain, count, explained, statuses
from autosparse.spec import load_spec, resolve
from autosparse.store import Store, key_of
from tests.plans import DIGITS, MACHINE, compiled, finish, publish
from tests.sealing import edit

LEARNED = {"mask": 9, "train": 9, "evaluate": 9, "emit": 3}  # the method and its two controls, three budgets
TRAINED = {"train": 28, "evaluate": 28, "emit": 3}
ALL_BUT_DATA = {"init": 2, "irp": 8, "label": 1, "trial": 6, "tune": 1, "scorer": 1, "mask": 27, **TRAINED}
RELABELLED = {"label": 1, "trial": 6, "tune": 1, "scorer": 1, **LEARNED}

# An edit of the digits spec that was run -> the steps that run again, and the reason of the first one.
EDITS = [
    ("a comment", [("version: 1", "# pruned\nversion: 1")], {}, ""),
    ("the order of keys", [("epochs: 12\n  batch: 128", "batch: 128\n  epochs: 12")], {}, ""),
    ("the same number", [("lr: 0.2", "lr: 2.0e-1"), ("{trials: 6}", "{trials: 0x6}")], {}, ""),
    ("a default written out", [("lr: 0.2", "lr: 0.2\n  momentum: 0.9")], {}, ""),
    ("target.threads", [("seeds: [0]", "seeds: [0]\ntarget: {threads: 1}")], {}, ""),
    ("fewer methods to compare", [("erk, magnitude, snip", "snip")], {}, ""),
    (
        "a budget more",
        [("0.98]", "0.98, 0.99]")],
        {"mask": 9, "train": 9, "evaluate": 9, "emit": 1},
        "budget: 0.99 is new",
    ),
    ("rounds 8 to 14", [("rounds: 8", "rounds: 14")], {"irp": 6, **RELABELLED}, "8 of 14 rounds are cached"),
    ("rounds 8 to 6", [("rounds: 8", "rounds: 6")], RELABELLED, "irp.rounds 8 → 6"),
    (
        "a seed more",
        [("seeds: [0]", "seeds: [0, 1]")],
        {"init": 1, "mask": 27, "train": 28, "evaluate": 28},
        "seeds: 1 is new",
    ),
    (
        "trials 6 to 10",
        [("trials: 6", "trials: 10")],
        {"trial": 4, "tune": 1, "scorer": 1, **LEARNED},
        "6 of 10 trials are cached",
    ),
    ("training.lr", [("lr: 0.2", "lr: 0.1")], {"irp": 8, **RELABELLED, **TRAINED}, "training.lr 0.2 → 0.1"),
    ("irp.per_round", [("per_round: 0.4", "per_round: 0.3")], {"irp": 8, **RELABELLED}, "irp.per_round 0.4 → 0.3"),
    ("the model's width", [("width: 16", "width: 8")], ALL_BUT_DATA, "model.width 16 → 8"),
    ("the model", [("{name: resnet8, width: 16}", "lenet")], ALL_BUT_DATA, "model resnet8 → lenet"),
    (
        "another network for the same scorer",
        [("{name: resnet8, width: 16}", "lenet"), ("irp: {", "irp: {model: {name: resnet8, width: 16}, ")],
        {"init": 1, "mask": 27, **TRAINED},
        "model resnet8 → lenet",
    ),
    (
        "an option of the scorer",
        [("scorer: mlp", "scorer: {name: mlp, steps: 200}")],
        {"trial": 6, "tune": 1, "scorer": 1, **LEARNED},
        "scorer.steps 300 → 200",
    ),
    (
        "the method",
        [("seeds: [0]", "seeds: [0]\nmethod: snip")],
        {"mask": 6, "train": 6, "evaluate": 6, "emit": 3},
        "no earlier artifact",
    ),
    (
        "precision",
        [("batch: 128", "batch: 128\n  precision: float32")],
        {"irp": 8, **RELABELLED, **TRAINED},
        "training.precision bfloat16 → float32",
    ),
]


@pytest.fixture
def there(store: Store) -> Store:
    """A store with everything that the digits spec makes."""
    finish(compiled(DIGITS), store)
    return store


def edited(folder: Path, *changes: tuple[str, str]) -> Plan:
    """The plan of the digits spec with some of its text replaced."""
    text = DIGITS.read_text(encoding="utf-8")
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    path = folder / "other.yaml"
    path.write_text(text, encoding="utf-8")
    return compiled(path, name="other")


def to_run(plan: Plan, by_step: dict[str, Status]) -> dict[str, int]:
    """Operation -> how many of its steps are not reused."""
    return dict(Counter(plan.steps[name].operation for name, status in by_step.items() if status.status != "reuse"))


@pytest.mark.parametrize(("changes", "expected", "reason"), [e[1:] for e in EDITS], ids=[e[0] for e in EDITS])
def test_what_an_edit_costs(
    there: Store, tmp_path: Path, changes: list[tuple[str, str]], expected: dict[str, int], reason: str
) -> None:
    """Under another name and from another directory, an edit runs what it changes and nothing else, and says why."""
    plan = edited(tmp_path, *changes)
    by_step = statuses(plan, there)

    assert expected == to_run(plan, by_step)
    first = next((status.reason for status in by_step.values() if status.status != "reuse"), "")
    assert reason == first


def test_a_run_with_everything_there_reuses_it(there: Store) -> None:
    """Every step is reused, and nothing else is said of it."""
    by_step = statuses(compiled(DIGITS), there)

    assert {("reuse", "in the cache")} == {(status.status, status.reason) for status in by_step.values()}
    assert {"run": 0, "reuse": len(by_step), "resume": 0} == count(by_step)


def test_an_empty_store_says_first_time(store: Store) -> None:
    """With nothing made before, the first steps run for the first time and the others after them."""
    by_step = statuses(compiled(DIGITS), store)

    assert ("run", "no earlier artifact") == (by_step["data/digits"].status, by_step["data/digits"].reason)
    assert "after `init/resnet8/seed0`: no earlier artifact" == by_step["train/dense/seed0"].reason
    assert ("data/digits",) == by_step["irp/seed100/round1"].because[1:]
    assert {"run"} == {status.status for status in by_step.values()}


def test_a_chain_that_was_cut_off_resumes(store: Store) -> None:
    """The first missing round resumes, with the number of finished ones; the later ones run after it."""
    plan = compiled(DIGITS)
    finish(plan, store, but=tuple(f"irp/seed100/round{n}" for n in (6, 7, 8)))
    by_step = statuses(plan, store)

    assert ("resume", "5 of 8 rounds are cached") == (
        by_step["irp/seed100/round6"].status,
        by_step["irp/seed100/round6"].reason,
    )
    assert "after `irp/seed100/round6`: 5 of 8 rounds are cached" == by_step["irp/seed100/round8"].reason
    assert 1 == count(by_step)["resume"]


def test_an_artifact_of_another_environment_is_reused_and_says_so(store: Store) -> None:
    """Threads are no part of a key; a different number is noted next to `reuse`."""
    plan = compiled(DIGITS)
    finish(plan, store, threads=7)
    status = statuses(plan, store)["scorer"]

    assert ("reuse", "in the cache, made with threads 7") == (status.status, status.reason)
    assert [{"path": "threads", "before": 7, "after": 2}] == [change.json() for change in status.environment]


def test_a_lost_artifact_is_told_from_a_new_one(there: Store) -> None:
    """A deleted artifact with the same options is reported as deleted; no option is said to have changed."""
    plan = compiled(DIGITS)
    step = plan.steps["train/snip/0.9/seed0"]
    there.set_aside(step.operation, step.key)
    status = statuses(plan, there)["train/snip/0.9/seed0"]

    assert ("run", ()) == (status.status, status.changes)


def test_a_new_version_of_a_step_is_the_reason(there: Store) -> None:
    """When autosparse computes a step in another way, the plan says that, and no option."""
    plan = compiled(DIGITS)
    step = plan.steps["train/dense/seed0"]
    keys = {role: plan.steps[name].key for role, name in step.inputs.items()}
    newer = replace(step, version=9, key=key_of("train", 9, step.options, keys))
    status = statuses(replace(plan, steps={**plan.steps, step.name: newer}), there)[step.name]

    assert f"version of autosparse's `train` {step.version} → 9" == status.reason


def test_the_nearest_artifact_is_compared(store: Store) -> None:
    """Of two artifacts made before, the one that differs in less is what a step is compared with."""
    far = compiled(DIGITS, "training.lr=0.5", "training.epochs=3", "training.batch=64")
    near = compiled(DIGITS, "training.lr=0.4")
    name = "train/dense/seed0"
    for plan, created in ((near, "2026-01-01T00:00:00+00:00"), (far, "2026-02-01T00:00:00+00:00")):
        for source in ("data/digits", "init/resnet8/seed0", name):
            if not store.has(plan.steps[source].operation, plan.steps[source].key):
                publish(store, plan, plan.steps[source], created)
    status = statuses(compiled(DIGITS), store)[name]

    assert "training.lr 0.4 → 0.2" == status.reason
    assert status.nearest is not None
    assert near.steps[name].key == status.nearest.key


def test_several_changes_are_told_in_a_line(there: Store) -> None:
    """Two changes are named, the others counted; all are in the JSON."""
    plan = compiled(DIGITS, "training.lr=0.4", "training.epochs=3", "training.batch=64")
    status = statuses(plan, there)["train/dense/seed0"]

    assert "training.epochs 12 → 3, training.batch 128 → 64 and 1 more" == status.reason
    assert {"path": "training.lr", "before": 0.2, "after": 0.4} in [change.json() for change in status.changes]
    assert 3 == len(status.changes)


def test_a_horizon_is_named_as_such(store: Store) -> None:
    """By the written horizon, not by the steps of the search that it is compiled to."""
    before, after = (
        compiled(
            DIGITS, f"method={{name: own, horizon: {custom}}}", f"compare=[{{name: ours, preset: erk, horizon: {n}}}]"
        )
        for custom, n in ((20, 9), (30, 5))
    )
    finish(before, store)
    by_step = statuses(after, store)

    assert "method.horizon 20 → 30" == by_step["mask/own/0.9/seed0"].reason
    assert "compare.ours.horizon 9 → 5" == by_step["mask/ours/0.9/seed0"].reason


def test_a_scorer_in_place_of_another_is_named(store: Store) -> None:
    """One that learns here and one that was trained before are two steps of different operations."""
    finish(compiled(DIGITS, "scorer.pretrained=cifar-v1"), store)
    plan = compiled(DIGITS, "scorer=quota")
    for step in plan.steps.values():
        if step.purpose in ("source", "scorer"):
            publish(store, plan, step)

    assert "scorer pretrained → quota in `scorer`" == statuses(plan, store)["mask/learned/0.9/seed0"].reason


def test_an_irp_of_its_own_is_named_as_such(store: Store, tmp_path: Path) -> None:
    """The path is that of the section where the option is written."""
    custom = "irp: {training: {epochs: 2, lr: 0.1}, "
    finish(edited(tmp_path, ("irp: {", custom)), store)
    plan = edited(tmp_path, ("irp: {", custom.replace("0.1", "0.3")))

    assert "irp.training.lr 0.1 → 0.3" == statuses(plan, store)["irp/seed100/round1"].reason


def test_a_second_spec_elsewhere_reuses(there: Store, tmp_path: Path) -> None:
    """The store is shared: neither the spec's name nor its directory is known to it."""
    (tmp_path / "far" / "away").mkdir(parents=True)

    assert {"reuse"} == {s.status for s in statuses(edited(tmp_path / "far" / "away"), there).values()}


def test_artifacts_without_the_name_of_their_step(store: Store) -> None:
    """They are still compared by their inputs."""
    plan = compiled(DIGITS)
    finish(plan, store)
    for artifact in list(store.artifacts()):
        edit(artifact.folder / "artifact.json", lambda about: {**about, "step": ""})
    by_step = statuses(compiled(DIGITS, "training.lr=0.1"), store)

    assert "training.lr 0.2 → 0.1" == by_step["irp/seed100/round1"].reason


def test_the_chain_of_a_step_ends_where_the_reason_lies(there: Store) -> None:
    """From an emitted model back to the round that a changed option makes run."""
    plan = compiled(DIGITS, "irp.per_round=0.3")
    by_step = statuses(plan, there)
    links = chain(plan, by_step, "emit/safetensors/learned/0.9/seed0")

    assert "emit/safetensors/learned/0.9/seed0" == links[0]
    assert "irp/seed100/round1" == links[-1]
    about = explained(plan, by_step, links[-1])
    assert [{"path": "irp.per_round", "before": 0.4, "after": 0.3}] == about["changes"]
    assert {"init", "data"} == about["inputs"].keys()
    assert "irp/seed100/round2" in about["outputs"]


def test_a_step_that_is_not_there_is_suggested(store: Store) -> None:
    """A mistyped step names the nearest one."""
    plan = compiled(DIGITS)

    with pytest.raises(UsageError, match="no step `train/dense/seed1`") as caught:
        chain(plan, statuses(plan, store), "train/dense/seed1")
    assert "train/dense/seed0" in (caught.value.hint or "")


def test_a_device_changes_nothing_by_itself(there: Store) -> None:
    """A GPU that computes in bfloat16 reuses all; one that cannot is another precision, and the plan says that."""
    spec = load_spec(DIGITS, overrides=["target.device=cuda"]).spec
    for able, expected in ((True, set()), (False, {"training.precision bfloat16 → float32"})):
        machine = replace(MACHINE, devices=("cuda", "cpu"), cuda_bfloat16=able)
        by_step = statuses(compile_plan(resolve(spec, machine), "digits"), there)
        assert expected == {s.reason for s in by_step.values() if s.status != "reuse" and not s.because}
