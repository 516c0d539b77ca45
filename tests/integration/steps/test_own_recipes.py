"""Methods that choose their recipe on validation images: the plan, the choice, and the networks trained by it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autosparse.cost.work import count_work
from autosparse.planning.model import Plan
from autosparse.report.cells import frontier
from autosparse.report.provenance import common_recipe, recipe_table
from autosparse.report.schema import Report
from autosparse.steps.train import EvaluateResult, read_trained
from autosparse.steps.tuning.chosen_recipe import ChosenRecipe
from autosparse.store import Artifact, Store
from tests.conftest import Workspace
from tests.plans import compiled

SPEC = """\
version: 1
model: lenet
dataset: digits
budget: [0.5, 0.7]
method: snip
target: {device: cpu, threads: 1}
training: {epochs: 2, batch: 64, crop: 0, flip: false, precision: float32}
compare: {methods: [rigl, gmp, dense], lr: [0.001, 0.05, 1000.0]}
controls: [shuffle]
emit: []
seeds: [0, 1]
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Store, Report]:
    """The plan, the store and the report of a run."""
    workspace = Workspace(tmp_path_factory.mktemp("own"))
    (workspace.folder / "spec.yaml").write_text(SPEC, encoding="utf-8")
    ended = workspace.run("run", "spec.yaml", "--json", "--quiet")
    assert 0 == ended.code, ended.err
    value = {name: part for name, part in ended.json.items() if name != "content_sha256"}
    return compiled(workspace.folder / "spec.yaml"), Store(workspace.cache), Report.of(value)


def opened(finished: tuple[Plan, Store, Report], name: str) -> Artifact:
    """The artifact of a step."""
    plan, store, _ = finished
    return store.open(plan.steps[name].operation, plan.steps[name].key)


def test_the_plan_tries_every_value_at_the_first_seed(finished: tuple[Plan, Store, Report]) -> None:
    """Three trainings for each method and budget, then one for each other seed; a copy counts no work."""
    plan = finished[0]
    works = count_work(plan)
    for cell in plan.cells:
        assert cell.recipe
        assert (3 if cell.seed == 0 else 0) == len(cell.candidates)
        assert (cell.seed == 0) == (works[cell.train].load.counted.macs == 0)
        assert all(works[one.train].load.counted.macs for one in cell.candidates)
    assert 9 == len({cell.recipe for cell in plan.cells})  # dense, and three methods and a control at two budgets


def test_the_best_on_validation_images_is_taken(finished: tuple[Plan, Store, Report]) -> None:
    """The first seed has the candidate's bytes; a diverged candidate is never chosen."""
    plan = finished[0]
    for cell in plan.cells:
        result = ChosenRecipe.read(opened(finished, cell.recipe))
        known = [accuracy for accuracy in result.accuracies if accuracy is not None]
        assert result.accuracies[result.number] == max(known)
        if cell.seed != 0:
            continue
        reached = [EvaluateResult.read(opened(finished, one.evaluate)).validation_accuracy for one in cell.candidates]
        assert [accuracy for accuracy, known in zip(reached, result.accuracies, strict=True) if known is not None] == [
            accuracy for accuracy in result.accuracies if accuracy is not None
        ]
        ours, chosen = (
            read_trained(opened(finished, name)) for name in (cell.train, cell.candidates[result.number].train)
        )
        assert ours.state.keys() == chosen.state.keys()
        assert all(torch.equal(ours.state[name], tensor) for name, tensor in chosen.state.items())


def test_other_seeds_train_by_the_choice(finished: tuple[Plan, Store, Report], tmp_path: Path) -> None:
    """They equal, bit for bit, the networks of a spec with that value."""
    value = ChosenRecipe.read(opened(finished, "recipe/snip/0.7")).chosen["lr"]
    workspace = Workspace(tmp_path)
    (tmp_path / "spec.yaml").write_text(SPEC.replace("lr: [0.001, 0.05, 1000.0]", ""), encoding="utf-8")
    changes = [f"training.lr={value}", "budget=0.7", "seeds=1", "compare=[]", "controls=[]"]
    ended = workspace.run("run", "spec.yaml", "--quiet", *(word for one in changes for word in ("--set", one)))
    assert 0 == ended.code, ended.err
    step = compiled(tmp_path / "spec.yaml", *changes).steps["train/snip/0.7/seed1"]
    plain = read_trained(Store(workspace.cache).open(step.operation, step.key)).state
    ours = read_trained(opened(finished, "train/snip/0.7/seed1")).state
    assert all(torch.equal(ours[name], tensor) for name, tensor in plain.items())


def test_the_report_shows_both(finished: tuple[Plan, Store, Report]) -> None:
    """Accuracies of all values, the chosen one, and at the best common value; costs are those of a training."""
    report = finished[2]
    titles, rows = recipe_table(report)
    assert ["method", "lr 0.001", "lr 0.05", "lr 1000.0"] == titles[:4]
    assert f"test, {titles[1 + common_recipe(report)]}" == titles[4]
    assert 9 == len(rows)
    assert all(1 == sum(cell.endswith("*") for cell in row) for row in rows)
    assert any("diverged" in cell for row in rows for cell in row)
    assert all(point.trainings >= 1 for point in frontier(report, "0.7"))


def test_all_values_may_diverge(tmp_path: Path) -> None:
    """The method then has no result, with the reason; the others have."""
    workspace = Workspace(tmp_path)
    text = SPEC.replace("[0.001, 0.05, 1000.0]", "[1e4, 1e5]").replace("[rigl, gmp, dense]", "[]")
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    ended = workspace.run("run", "spec.yaml", "--quiet", "--set", "budget=0.5", "--set", "seeds=0")

    assert 0 != ended.code
    assert "diverged at all values in `compare`: lr 10000.0, lr 100000.0" in ended.err
