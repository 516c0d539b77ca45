"""Labels: what examples are kept of the rounds of an IRP, for scorers that learn from one round after another."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from autosparse.backends import Placement as Where
from autosparse.backends import this_machine
from autosparse.core.weights import Tensors
from autosparse.execute import Everyone, Execution
from autosparse.planning.compile import compile_plan
from autosparse.planning.model import Plan
from autosparse.spec import load_spec, resolve
from autosparse.steps import Context
from autosparse.steps.label import LabelResult
from autosparse.steps.scorer import load_examples
from autosparse.store import Artifact, Store
from tests.conftest import SMALL, Workspace, call

LEARNED = SMALL.replace("name: mlp", "name: hazard").replace("trials: 3", "trials: 2") + "method: learned_rounds\n"


def made(folder: Path) -> tuple[Plan, Store]:
    """The plan of the small spec with scorer `hazard`, of which the scorer is made."""
    path = folder / "hazard.yaml"
    path.write_text(LEARNED)
    plan = compile_plan(resolve(load_spec(path).spec, this_machine()), "hazard")
    needed = [step for step in plan.steps.values() if step.purpose in ("source", "scorer")]
    names = {name for step in needed for name in (step.name, *step.inputs.values())}
    some = replace(plan, steps={name: step for name, step in plan.steps.items() if name in names})
    store = Store.default()
    Execution(some, store, Everyone(), placement=Where("cpu", 1)).run()
    return plan, store


def opened(plan: Plan, store: Store, name: str) -> Artifact:
    """Return the artifact of a step of the plan."""
    return store.open(plan.steps[name].operation, plan.steps[name].key)


def test_every_round_is_described_by_what_it_finds(here: Workspace) -> None:
    """Examples are of the weights that a round begins with, features under its masks, and targets what it leaves."""
    plan, store = made(here.folder)
    label = opened(plan, store, "label/seed100")
    masks: list[Tensors] = [opened(plan, store, f"irp/seed100/round{n}").tensors("masks") for n in (1, 2, 3)]
    context = Context({"label.100": label}, None, Where("cpu", 1), {})  # type: ignore[arg-type]
    features, shares = load_examples(context)
    layers = label.json("result")["layers"]

    assert [f"100@{n}:{layer}" for n in (1, 2, 3) for layer in layers] == list(features.values)
    for number in (1, 2, 3):
        result = {name: torch.ones_like(mask) for name, mask in masks[0].items()} if number == 1 else masks[number - 2]
        remaining = sum(int(mask.sum()) for mask in result.values()) / sum(mask.numel() for mask in result.values())
        for layer in layers:
            name, left = f"100@{number}:{layer}", int(result[layer].sum())

            assert left == features.sizes[name] == len(features.values[name]) == len(shares[name])
            assert int(masks[number - 1][layer].sum()) == int(shares[name].sum())
            assert {0.0, 1.0} >= set(shares[name].tolist())
            torch.testing.assert_close(
                torch.tensor([left / result[layer].numel(), remaining]).log().expand(left, 2),
                features.values[name][:, [group == "remaining" for group in features.columns]],
            )
    assert set(features.columns) == {"magnitude", "gradient", "sensitivity", "channels", "layer", "remaining"}


@pytest.mark.slow
def test_a_hazard_prunes_in_rounds_and_at_once(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Both give exact masks, and the report shows the share of a round's survivors that the scorer finds."""
    (here.folder / "hazard.yaml").write_text(LEARNED)
    ended = call(capsys, "run hazard.yaml --set compare=[learned] --set controls=[] --set emit=[] --json")
    shown = call(capsys, "report --wide")

    assert 0 == ended.code, ended.err
    assert {"learned_rounds", "learned"} == {result["method"] for result in ended.json["results"]}
    for result in ended.json["results"]:
        assert round((1 - result["sparsity"]) * result["total"]) == result["kept"]
    assert ended.json["scorer"]["progressive"] is True
    assert "of the weights that survive a round" in " ".join(shown.out.split())


@pytest.mark.slow
def test_a_warm_up_travels_with_the_scorer(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """A pretrained scorer looks at networks after as many steps as it learned with: it makes the same masks."""
    (here.folder / "warm.yaml").write_text(SMALL.replace("steps: 20", "steps: 20, warm_up: 3"))
    few = "--set budget=0.8 --set compare=[] --set controls=[] --set emit=[] --json"
    first = call(capsys, f"run warm.yaml {few}")
    (here.folder / "takes.yaml").write_text(
        "".join(line for line in SMALL.splitlines(keepends=True) if not line.startswith(("irp", "scorer", "tuning")))
        + f"scorer: {{pretrained: '{first.json['run']}/scorer'}}\n"
    )
    chosen = call(capsys, f"run takes.yaml {few}")
    cold = call(capsys, f"run warm.yaml {few} --set scorer.warm_up=0")

    assert (0, 0, 0) == (first.code, chosen.code, cold.code), first.err + chosen.err + cold.err
    assert 3 == first.json["scorer"]["options"]["warm_up"] == chosen.json["scorer"]["options"]["warm_up"]
    assert first.json["results"] == chosen.json["results"]
    assert first.json["results"] != cold.json["results"]
    assert 0 == cold.json["scorer"]["options"]["warm_up"]


@pytest.mark.slow
def test_a_warm_up_that_diverges_says_so(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """The step fails with what to lower."""
    (here.folder / "warm.yaml").write_text(SMALL.replace("steps: 20", "steps: 20, warm_up: 3"))
    source = "{rounds: 1, per_round: 0.5, epochs: 0.1, training: {lr: 1.0e+30, crop: 1, flip: false}}"
    ended = call(capsys, f"run warm.yaml --only label/seed100 --set 'irp={source}'")

    assert 1 == ended.code
    assert "warming up the network: training for 3 steps diverged" in ended.err
    assert "lower `irp.training.lr`" in ended.err


def test_a_step_reads_the_initial_state_once(
    here: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network that it builds shows the shapes of the masks, however many rounds it reads."""
    read, tensors = list[str](), Artifact.tensors

    def recorded(artifact: Artifact, name: str) -> Tensors:
        read.append(f"{artifact.descriptor['operation']}/{name}")
        return tensors(artifact, name)

    (here.folder / "brief.yaml").write_text(SMALL)
    monkeypatch.setattr(Artifact, "tensors", recorded)
    source = "{rounds: 2, per_round: 0.5, epochs: 0.1, training: {crop: 1, flip: false}}"
    ended = call(capsys, f"run brief.yaml --only label/seed100 --set 'irp={source}'")

    assert 0 == ended.code, ended.err
    assert 3 == read.count("init/state")
    assert 3 == read.count("irp/masks")


COLLAPSES = (
    "version: 1\nmodel: {name: resnet8, width: 4}\ndataset: digits\nbudget: 0.9\ncompare: []\ncontrols: []\nemit: []\n"
    "target: {device: cpu, threads: 1}\ntuning: {trials: 0}\nirp: {rounds: 7, per_round: 0.65}\n"
    "training: {epochs: 3, batch: 64, lr: 0.2, schedule: one_cycle, crop: 1, flip: false, precision: float32}\n"
)


@pytest.mark.slow
def test_rounds_after_a_collapse_are_left_out(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Three weights cannot separate digits: labels come from the rounds before, and the report says which."""
    (here.folder / "collapses.yaml").write_text(COLLAPSES)
    ended = call(capsys, "run collapses.yaml --json")
    shown = call(capsys, "report").out
    accuracies = [item["validation_accuracy"] for item in ended.json["irp"]]
    (path,) = (here.cache / "artifacts" / "label").glob("*/result.json")
    about = json.loads(path.read_text())
    used = about["rounds_used"]

    assert 0 == ended.code, ended.err
    assert 7 == about["rounds_made"] == len(accuracies)
    assert 2 <= used < 7
    assert accuracies[used - 1] > 20 > max(accuracies[used:])
    assert used + 1 == len(about["survivors"])
    assert about["survivors"][-1] == ended.json["irp"][used - 1]["kept"]
    assert f"networks stay at chance from round {used + 1} of 7 (dropped from the labels)" in " ".join(shown.split())


@pytest.mark.slow
def test_a_network_that_never_learns_teaches_nothing(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Its labels exist, but the report says that they carry no information."""
    (here.folder / "never.yaml").write_text(
        COLLAPSES.replace("lr: 0.2", "lr: 1.0e-6").replace("rounds: 7", "rounds: 2")
    )
    ended = call(capsys, "run never.yaml --json")

    assert 0 == ended.code, ended.err
    assert [True] == ["no round learns" in warning for warning in ended.json["warnings"] if "IRP" in warning]


def test_quotas_need_rounds_that_leave_few(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """If too many weights remain after the rounds, the scorer step fails with the remedy."""
    text = COLLAPSES.replace("per_round: 0.65", "per_round: 0.998").replace("rounds: 7", "rounds: 1")
    (here.folder / "one.yaml").write_text(text + "scorer: quota\n")
    plan = compile_plan(resolve(load_spec(here.folder / "one.yaml").spec, this_machine()), "one")
    store = Store.default()
    for step in plan.of("label"):
        store.publish(
            step.operation,
            step.key,
            partial(LabelResult([], [], [40, 60], rounds_used=1, rounds_made=1).write, labels={}, examples={}),
            lambda: {"step": "label", "inputs": {}, "options": {}},
        )
    ended = call(capsys, "run one.yaml --only scorer")

    assert 1 == ended.code
    assert "leave 60% of the weights, but scorer `quota` learns from rounds that leave 50% or less" in ended.err
