"""Sanity checks end to end: steps that run, steps that are reused, and the report."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
import torch

from autosparse.core.training.loop import accuracy, train
from autosparse.core.training.recipe import Recipe
from autosparse.models import models
from autosparse.report.schema import Report
from autosparse.steps.context import generator, load_images
from autosparse.store import Store, load_tensors
from tests.conftest import Workspace, call

SPEC = """\
model: {name: mlp, widths: [12]}
dataset: digits
budget: [0.5, 0.8]
target: {device: cpu, threads: 1}
method: snip
training: {epochs: 4, batch: 64, lr: 0.2, crop: 0, flip: false, precision: float32}
compare: [random, synflow, {name: thin, criterion: snip, allocation: {name: fixed, layers: {"3": 0.99}}}, dense]
emit: []
"""


@pytest.fixture
def spec(here: Workspace) -> Workspace:
    """The spec in this process's directory."""
    (here.folder / "checked.yaml").write_text(SPEC)
    return here


def run(capsys: pytest.CaptureFixture[str], *overrides: str) -> Any:
    """The report of a run."""
    sets = " ".join(f"--set '{override}'" for override in overrides)
    ended = call(capsys, f"run checked.yaml --json --quiet {sets}")
    assert 0 == ended.code, ended.err
    return ended.json


@pytest.mark.slow
def test_checks_come_to_a_finished_spec(spec: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """They alone run; the same command again has nothing to run; the report shows numbers and verdicts."""
    before = run(capsys)
    after = run(capsys, "sanity=true")
    again = run(capsys, "sanity=true")
    made = Counter(path.parent.name for path in (spec.cache / "artifacts").glob("*/*"))

    assert [] == before["sanity"]
    assert {"run": made["sanity"], "reuse": before["steps"]["run"], "resume": 0} == after["steps"]
    assert {"run": 0, "reuse": sum(made.values()), "resume": 0} == again["steps"]
    assert before["results"] == after["results"]
    assert after["sanity"] == again["sanity"]
    assert after["cost"]["sanity"] > 0

    subject, best = after["sanity"]
    result = {check["check"]: check for check in subject["checks"]}
    shuffled = next(r for r in after["controls"] if (r["method"], r["sparsity"]) == ("snip.shuffle", 0.8))
    mine = next(r for r in after["results"] if (r["method"], r["sparsity"]) == ("snip", 0.8))

    assert ("snip", "snip", "0.8", 0.8, [0]) == tuple(
        subject[name] for name in ("subject", "method", "budget", "sparsity", "seeds")
    )
    assert mine["test_accuracy"] == subject["test_accuracy"]
    assert shuffled["test_accuracy"] == result["shuffle"]["test_accuracy"]
    assert result["shuffle"]["difference"] == pytest.approx(shuffled["test_accuracy"] - mine["test_accuracy"])
    assert result["invert"]["overlap"] < 0.8
    assert result["random_labels"]["overlap"] < 1
    assert {None} == {result[name]["overlap"] for name in ("shuffle", "reinitialize")}
    for check in subject["checks"]:
        assert "noise over seeds unknown" in check["verdict"]
        assert 0 <= check["validation_accuracy"] <= 100

    reached = {r["method"]: r["validation_accuracy"] for r in after["results"] if r["sparsity"] == 0.8}
    del reached["snip"]
    assert "best" == best["subject"]
    assert reached == best["chosen_from"]
    assert max(reached.values()) == best["validation_accuracy"] == reached[best["method"]]
    for check in best["checks"]:
        assert bool(check["left_out"]) != bool(check["verdict"])
    # Which of them is best, and so what is left out, was not known before.
    assert ("" if best["method"] == "thin" else "it looks at no images") == best["checks"][3]["left_out"]
    assert "sanity/best/0.8/seed0/random_labels" in call(capsys, "plan checked.yaml --steps --set sanity=true").out


def test_the_report_shows_a_table_and_verdicts(spec: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """For people: accuracy and difference of each check, its verdict, and the checks left out with reasons."""
    report = run(capsys, "sanity={methods: [snip, random], checks: [shuffle, reinitialize]}", "budget=0.8")
    ended = call(capsys, "report")

    assert "sanity checks at sparsity 0.8, seed 0: test accuracy in % and its difference" in ended.out
    assert " unchanged " in ended.out
    assert "snip: " in ended.out
    assert "random, skipped: reinitialize, since its masks know nothing of the initial weights" in ended.out

    assert "random" == Report.of(json.loads(json.dumps(report))).sanity[1].method


def test_several_seeds(spec: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """With three seeds the noise is the method's own, and checks at several are means."""
    report = run(
        capsys,
        "sanity={methods: [snip], checks: [shuffle], seeds: 2}",
        "seeds=[0, 1, 2]",
        "budget=0.8",
        "compare=[dense]",
    )
    (subject,) = report["sanity"]
    shuffled = [r["test_accuracy"] for r in report["controls"] if r["method"] == "snip.shuffle" and r["seed"] < 2]

    assert [0, 1] == subject["seeds"]
    assert "3 seeds" in subject["noise_from"]
    assert subject["noticeable"] == pytest.approx(2 * subject["noise"])
    assert subject["checks"][0]["test_accuracy"] == pytest.approx(sum(shuffled) / 2)


def test_other_weights_are_of_the_networks_own_initialization(
    spec: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """`reinitialize` reaches the accuracy of the recipe from weights of another seed under the method's masks."""
    checked = ("sanity={methods: [snip], checks: [reinitialize]}", "budget=0.8", "compare=[]", "controls=[]")
    (subject,) = run(capsys, *checked)["sanity"]
    result = {}
    for path in (spec.cache / "artifacts").glob("*/*"):
        result[path.parent.name] = Store.default().open(path.parent.name, path.name)
    data = {split: load_images(result["data"], split, torch.device("cpu")) for split in ("train", "test")}
    seed = generator("sanity", "reinitialize", 0).initial_seed()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = models["mlp"].function((1, 8, 8), 10, widths=(12,))
    recipe = Recipe(epochs=4, batch=64, lr=0.2, crop=0, flip=False, precision="float32")
    train(model, data["train"], recipe, generator("train", 0), masks=result["mask"].tensors("masks"))

    assert accuracy(model, data["test"], "float32") == subject["checks"][0]["test_accuracy"]
    assert not torch.equal(model.state_dict()["3.bias"], result["train"].tensors("state")["3.bias"])


def test_the_control_of_many_rounds_has_the_very_quotas(spec: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """SynFlow's masks, permuted within layers: as many in every layer, elsewhere, and one number for one thing."""
    report = run(
        capsys, "method=synflow", "compare=[]", "controls=[shuffle]", "sanity={methods: [synflow], checks: [shuffle]}"
    )
    kept: dict[str, list[dict[str, torch.Tensor]]] = {"mask": [], "shuffle": []}
    for path in sorted((spec.cache / "artifacts").glob("*/*/masks.safetensors")):
        kept[path.parent.parent.name].append(load_tensors(path.read_bytes()))

    counts = {name: [[int(mask.sum()) for mask in masks.values()] for masks in result] for name, result in kept.items()}
    (control,) = [r for r in report["controls"] if r["sparsity"] == 0.8]
    assert sorted(counts["mask"]) == sorted(counts["shuffle"])
    assert all(
        not torch.equal(a[n], b[n]) for a, b in zip(kept["mask"], kept["shuffle"], strict=True) for n in list(a)[:1]
    )
    assert control["test_accuracy"] == report["sanity"][0]["checks"][0]["test_accuracy"]
