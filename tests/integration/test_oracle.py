"""`irp` as a method: rounds on the network that is pruned, exact at any budget, with its cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from autosparse.core.irp import keep_after
from autosparse.cost.work import count_work
from autosparse.planning.model import Plan
from autosparse.steps.workload import sum_counted
from autosparse.store import Store
from tests.conftest import Workspace, call
from tests.plans import compiled

SPEC = """\
model: {name: resnet8, width: 4}
dataset: digits
method: random
controls: []
emit: []
budget: [0.5, 0.7, 0.8]
target: {device: cpu, threads: 1}
irp: {per_round: 0.4, epochs: 0.5, rewind_to: 1, per_round_of: remaining, rank_by: movement}
training: {epochs: 1, batch: 256, lr: 0.05, crop: 1, flip: false, precision: float32}
compare: [irp, dense]
"""


def plan_of(folder: Path, *overrides: str) -> Plan:
    """The plan of the spec."""
    (folder / "spec.yaml").write_text(SPEC, encoding="utf-8")
    return compiled(folder / "spec.yaml", *overrides)


def rounds_of(plan: Plan, budget: str) -> list[str]:
    """The rounds that the mask within a budget is made from."""
    inputs = plan.steps[f"mask/irp/{budget}/seed0"].inputs
    return [name for role, name in inputs.items() if role.startswith("round")]


def test_a_budget_takes_as_many_rounds_as_it_needs(tmp_path: Path) -> None:
    """Of 0.6 a round, 50 % lies in the second, 70 % and 80 % in the third and fourth; earlier ones are shared."""
    plan = plan_of(tmp_path)
    names = [f"irp/resnet8/seed0/round{number}" for number in range(1, 5)]

    assert [names[:2], names[:3], names] == [rounds_of(plan, budget) for budget in ("0.5", "0.7", "0.8")]
    assert names == [step.name for step in plan.of("irp")]
    assert {"comparison"} == {step.purpose for step in plan.of("irp")}
    assert not plan.of("label")
    assert [] == plan_of(tmp_path, "compare=[dense]").of("irp")
    assert plan.steps[names[3]].key == plan_of(tmp_path, "budget=[0.8]").steps[names[3]].key


def test_rounds_of_a_source_that_is_the_same_network_are_shared(tmp_path: Path) -> None:
    """With a scorer from other seeds, IRP of the network to prune is its own; its options are those of the source."""
    plan = plan_of(tmp_path, "method=learned", "irp.rounds=2")

    assert {"irp/seed100/round1", "irp/resnet8/seed0/round1"} <= plan.steps.keys()
    oracle, source = plan.steps["irp/resnet8/seed0/round1"], plan.steps["irp/seed100/round1"]
    assert oracle.options == {**source.options, "seed": 0}
    assert ("comparison", "source") == (oracle.purpose, source.purpose)


def test_an_option_that_changes_makes_another_irp(tmp_path: Path) -> None:
    """Only a changed option that matters makes another IRP."""
    usual = plan_of(tmp_path, "irp={per_round: 0.4, epochs: 1}").steps["irp/resnet8/seed0/round1"]

    names = {"training", "per_round", "per_round_of", "rank_by", "rewind_to", "seed", "number"}
    assert names == usual.options.keys()
    assert "rewind" not in usual.inputs
    for change in ("rewind_to=2", "per_round_of=all", "rank_by=snip", "epochs=1.5"):
        other = plan_of(tmp_path, "irp={per_round: 0.4, epochs: 1}", f"irp.{change}")
        assert usual.key != other.steps["irp/resnet8/seed0/round1"].key
    same = plan_of(tmp_path, "irp={per_round: 0.4, epochs: 1.0, rewind_to: 0, per_round_of: remaining}")
    assert usual.key == same.steps["irp/resnet8/seed0/round1"].key


def test_a_rewind_past_the_end_is_refused(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """A round of half an epoch has three steps."""
    (here.folder / "spec.yaml").write_text(SPEC)
    ended = call(capsys, "plan spec.yaml --set irp.rewind_to=3")

    assert 2 == ended.code
    assert "`irp.rewind_to` 3 is not before the end of the 2 steps of a round" in ended.err
    assert "spec.yaml" in ended.err or "--set" in ended.err


@pytest.mark.slow
def test_the_oracle_end_to_end(workspace: Workspace) -> None:
    """Exact counts, nested masks, the rounds' own masks where budgets meet them, costs, and nothing to run again."""
    (workspace.folder / "spec.yaml").write_text(SPEC)
    ended = workspace.run("run", "spec.yaml", "--json")
    assert 0 == ended.code, ended.err
    report = ended.json
    actual = {result["sparsity"]: result for result in report["results"] if result["method"] == "irp"}
    plan, store = plan_of(workspace.folder), Store(workspace.cache)

    def masks(step: str) -> dict[str, Any]:
        at = plan.steps[step]
        return {name: mask.bool() for name, mask in store.open(at.operation, at.key).tensors("masks").items()}

    assert [0.5, 0.7, 0.8] == list(actual)
    kept = {budget: masks(f"mask/irp/{budget}/seed0") for budget in (0.5, 0.7, 0.8)}
    for budget, result in actual.items():
        assert round((1 - budget) * result["total"]) == result["kept"]
        assert result["kept"] == sum(int(mask.sum()) for mask in kept[budget].values())
    third = masks("irp/resnet8/seed0/round3")
    assert keep_after(actual[0.7]["total"], 0.4, 3) < actual[0.7]["kept"]
    for name in third:
        assert not bool((kept[0.8][name] & ~third[name]).any())
        assert not bool((third[name] & ~kept[0.7][name]).any())
    costs = {(cost["method"], cost["budget"]): cost for cost in report["mask_costs"]}
    for method, budget, made in ("irp", "0.8", 4), ("irp", "0.5", 2), ("random", "0.5", 0):
        mask = plan.steps[f"mask/{method}/{budget}/seed0"]
        rounds = [name for role, name in mask.inputs.items() if role.startswith("round")]
        took = [plan.steps[name] for name in (mask.name, *rounds)]
        seconds = sum(store.open(step.operation, step.key).descriptor["seconds"] for step in took)
        assert made == len(rounds)
        assert costs[method, budget]["seconds"] == pytest.approx(seconds, abs=1e-3)
        works = count_work(plan)
        counted = sum_counted(works[step.name].load.counted for step in took)
        once = works["train/dense/seed0"].load.counted
        assert (counted.steps, counted.images, counted.macs) == tuple(
            costs[method, budget][name] for name in ("steps", "images", "macs")
        )
        assert costs[method, budget]["trainings"] == pytest.approx(counted.macs / once.macs, rel=1e-4)
        assert (made == 0) == (costs[method, budget]["trainings"] == 0)
    assert "nothing to run" in workspace.run("run", "spec.yaml").err
    state = plan.steps["rewind/resnet8/seed0"]
    moved = load_file(workspace.cache / "artifacts" / "rewind" / state.key / "state.safetensors")
    start = plan.steps["init/resnet8/seed0"]
    initial = store.open("init", start.key).tensors("state")
    assert any(bool((moved[name] != tensor).any()) for name, tensor in initial.items())
