"""Sanity checks in a plan: which steps there are, from what they are made, what they cost, what they leave alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from autosparse.core.sanity import CHECKS
from autosparse.cost.work import count_work
from autosparse.planning.compile import compile_plan
from autosparse.planning.model import Check, Plan
from autosparse.spec import load_spec, resolve
from tests.plans import MACHINE

BASE = (
    "model: {name: resnet8, width: 4}\ndataset: digits\nbudget: [0.5, 0.9]\nmethod: snip\nseeds: [0, 1]\n"
    "training: {epochs: 2, lr: 0.1}\ncompare: [random, grasp, synflow, dense]\nemit: []\n"
)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plan(*overrides: str, text: str = BASE) -> Plan:
    """The plan of a spec, with overrides."""
    Path("spec.yaml").write_text(text, encoding="utf-8")
    return compile_plan(resolve(load_spec(Path("spec.yaml"), overrides=overrides).spec, MACHINE), "spec")


def check(plan: Plan, name: str, subject: str = "snip") -> Check:
    """One check of a plan."""
    (result,) = [check for check in plan.checks if (check.check, check.subject) == (name, subject)]
    return result


def keys(plan: Plan) -> set[str]:
    """Return the keys of a plan's steps."""
    return {step.key for step in plan.steps.values()}


def test_checks_only_add() -> None:
    """Nothing of a finished spec runs again when checks are asked for; without them there is none."""
    before, after = plan(), plan("sanity=true")

    assert () == before.checks
    assert keys(before) < keys(after)
    assert {"sanity"} == {step.operation for step in after.steps.values() if step.key not in keys(before)}
    assert before.cells == after.cells


def test_checks_of_a_method() -> None:
    """At the highest budget and the first seed; the shuffle is the existing control."""
    planned = plan("sanity={methods: [snip]}")

    assert list(CHECKS) == [check.check for check in planned.checks]
    assert {("snip", "0.9", 0)} == {(check.subject, check.budget, check.seed) for check in planned.checks}
    assert "evaluate/snip.shuffle/0.9/seed0" == check(planned, "shuffle").step
    assert [f"sanity/snip/0.9/seed0/{name}" for name in list(CHECKS)[1:]] == [
        step.name for step in planned.of("sanity")
    ]
    step = planned.steps["sanity/snip/0.9/seed0/invert"]
    assert {"init", "data", f"mask.{next(iter(step.options['candidates']))}"} == set(step.inputs)
    assert 0.9 == step.options["sparsity"]


def test_the_shuffle_is_trained_where_no_control_is_it() -> None:
    """Without the control; a control of several rounds is the check too, the finished masks permuted."""
    assert "sanity/snip/0.9/seed0/shuffle" == check(plan("sanity=true", "controls=[]"), "shuffle").step
    text = BASE.replace("method: snip", "method: synflow")
    rounds = plan("sanity=true", text=text)

    assert "evaluate/synflow.shuffle/0.9/seed0" == check(rounds, "shuffle", "synflow").step
    assert "it looks at no images" == check(rounds, "random_labels", "synflow").left_out
    assert check(rounds, "random_labels", "synflow").step is None


def test_the_best_has_all_baselines_for_candidates() -> None:
    """The best is known when they are evaluated: at the checked seeds, on validation images."""
    planned = plan("sanity={methods: [best], seeds: 2}")
    step = planned.steps["sanity/best/0.9/seed1/invert"]
    roles = {role.partition(".")[0] for role in step.inputs}

    assert {"random", "grasp", "synflow"} == set(
        check(plan("sanity={methods: [best]}"), "invert", "best").candidates.values()
    )
    assert {"init", "data", "mask", "evaluate"} == roles
    assert {f"mask/{name}/0.9/seed1" for name in ("random", "grasp", "synflow")} < set(step.inputs.values())
    assert {f"evaluate/{name}/0.9/seed{seed}" for name in ("random", "grasp", "synflow") for seed in (0, 1)} < set(
        step.inputs.values()
    )
    assert "init/resnet8/seed1" == step.inputs["init"]


def test_the_best_of_one_is_that_one() -> None:
    """One candidate needs no choice: its checks are those of the method by its name."""
    planned = plan("sanity={methods: [grasp, best], checks: [invert]}", "compare=[grasp]")

    assert 1 == len(planned.of("sanity"))


@pytest.mark.parametrize(
    "override",
    [
        "compare=[synflow, dense, grasp, random]",
        "compare=[random, {name: mine, criterion: grasp}, synflow, dense]",
        "seeds=[0, 1, 2]",
        "budget=[0.7, 0.9]",
        "emit=[safetensors]",
    ],
)
def test_names_and_order_change_no_check(override: str) -> None:
    """Names of methods, their order, and other seeds and budgets do not change the checks."""
    before, after = plan("sanity=true"), plan("sanity=true", override)

    assert {step.key for step in before.of("sanity")} == {step.key for step in after.of("sanity")}


def test_the_budget_and_the_checks_can_be_chosen() -> None:
    """Of budgets in multiply-adds, `max` is the least where there is no other."""
    assert {"0.5"} == {item.budget for item in plan("sanity={budget: 50%}").checks}
    assert {"0.9"} == {item.budget for item in plan("sanity=true", "budget=[0.5, 0.9, {macs: 50k}]").checks}
    macs = plan("sanity=true", "budget=[{macs: 50k}, {macs: 40k}]")
    assert {"40k macs"} == {item.budget for item in macs.checks}
    assert {"macs": 40_000} == macs.steps["sanity/best/40k-macs/seed0/invert"].options["budget"]
    assert ["invert"] == [item.check for item in plan("sanity={methods: [snip], checks: [invert]}").checks]


def test_checks_have_a_price() -> None:
    """A check trains one network; an inverted schedule runs twice, and one without scoring not at all."""
    planned = plan("sanity=true")
    work = count_work(planned)
    trained, mask = work["train/snip/0.9/seed0"].load.units, work["mask/snip/0.9/seed0"].load.units
    priced = {name: work[f"sanity/snip/0.9/seed0/{name}"].load.units for name in list(CHECKS)[1:]}

    assert {trained["train"]} == {units["train"] for units in priced.values()}
    assert 0 == priced["reinitialize"].get("gradient", 0)
    assert mask["gradient"] == priced["random_labels"]["gradient"]
    assert 2 * mask["gradient"] == priced["invert"]["gradient"]
    # The best may be any of the baselines: the dearest of each kind of work is counted.
    dearest = max(work[f"mask/{name}/0.9/seed0"].load.units["flow"] for name in ("grasp", "synflow"))
    assert 2 * dearest == work["sanity/best/0.9/seed0/invert"].load.units["flow"]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("snip", {"shuffle": "mask", "layer_mean": "mask"}),
        ("synflow", {"shuffle": "shuffle"}),
        ("edge_popup", {"shuffle": "mask"}),
        ("gem_miner", {"shuffle": "shuffle"}),
        ("{criterion: snip, repair: reconnect}", {"shuffle": "shuffle"}),
        ("{criterion: random, selection: balanced}", {"shuffle": "mask"}),
        ("erk", {}),
    ],
)
def test_controls_are_those_that_say_something(method: str, expected: dict[str, str]) -> None:
    """Quotas filled at random where they are allocated once, the finished masks permuted elsewhere."""
    planned = plan(f"method={method}", "controls=[shuffle, layer_mean]", "compare=[]")
    controls = {cell.method.rpartition(".")[2]: cell.mask for cell in planned.cells if cell.role == "control"}

    assert expected == {name: planned.steps[str(mask)].operation for name, mask in controls.items()}
    for mask in controls.values():
        step = planned.steps[str(mask)]
        assert step.operation == "mask" or planned.steps[step.inputs["mask"]].operation == "mask"
