"""`shared: true` of a search: one step makes the masks of every budget of a spec."""

from __future__ import annotations

import itertools
import json

import pytest
import torch

from autosparse.errors import UsageError
from autosparse.steps.mask_result import MaskResult, read_masks
from autosparse.steps.tickets.orders import StagesResult
from autosparse.store import Store
from tests.conftest import Workspace
from tests.plans import compiled

SPEC = """\
model: {name: resnet8, width: 4}
dataset: digits
method: {name: one, preset: mask_search, allocation: igq, horizon: 12, schedule: {name: search, shared: true}}
controls: [shuffle]
emit: []
budget: [0.7, 0.9, 0.95]
target: {device: cpu, threads: 1}
training: {epochs: 1, batch: 256, lr: 0.05, crop: 0, flip: false, precision: float32}
compare: []
"""


def test_all_budgets_share_one_search(workspace: Workspace) -> None:
    """One search for three budgets, whose masks are nested and exact; controls shuffle them; a rerun reuses all."""
    path = workspace.folder / "spec.yaml"
    path.write_text(SPEC, encoding="utf-8")
    plan = compiled(path)
    assert ["search/one/seed0"] == [step.name for step in plan.of("search_stages")]
    workspace.run("run", "spec.yaml", "--quiet")
    store = Store(workspace.cache)

    def masks(budget: str) -> MaskResult:
        step = plan.steps[f"mask/one/{budget}/seed0"]
        return read_masks(store.open(step.operation, step.key))

    made = [masks(budget) for budget in ("0.7", "0.9", "0.95")]
    search = plan.steps["search/one/seed0"]
    result = StagesResult.read(store.open(search.operation, search.key))
    assert [one.kept for one in made] == result.kept
    for before, after in itertools.pairwise(made):
        assert not any(bool((after.masks[name] & ~before.masks[name]).any()) for name in after.masks)
    shuffled = store.open("shuffle", plan.steps["mask/one.shuffle/0.9/seed0"].key)
    assert read_masks(shuffled).kept == made[1].kept
    report = json.loads((workspace.folder / "runs" / "spec-1" / "report.json").read_text())
    costs = {cost["budget"]: cost["trainings"] for cost in report["mask_costs"]}
    assert len({*costs.values()}) == 1, "the whole search counts for every budget"
    assert costs["0.7"] > 0
    assert "nothing to run" in workspace.run("run", "spec.yaml").err


def test_another_budget_is_another_search(workspace: Workspace) -> None:
    """The budgets are part of the search, in any order; masks of one seed are not those of another."""
    path = workspace.folder / "spec.yaml"
    keys = {}
    for budgets in ("[0.7, 0.9, 0.95]", "[0.95, 0.7, 0.9]", "[0.7, 0.9]"):
        path.write_text(SPEC.replace("[0.7, 0.9, 0.95]", budgets), encoding="utf-8")
        keys[budgets] = compiled(path).steps["search/one/seed0"].key

    assert len({*keys.values()}) == 2
    assert keys["[0.7, 0.9, 0.95]"] == keys["[0.95, 0.7, 0.9]"]


@pytest.mark.parametrize("budget", ["{macs: 50%}", "[0.9, {macs: 30%}]"])
def test_budgets_are_in_weights(workspace: Workspace, budget: str) -> None:
    """A budget in multiply-adds has no place in the order of one search."""
    path = workspace.folder / "spec.yaml"
    path.write_text(SPEC.replace("[0.7, 0.9, 0.95]", budget), encoding="utf-8")

    with pytest.raises(UsageError, match="takes budgets in weights"):
        compiled(path)


def test_parameters_are_a_budget_in_weights(workspace: Workspace) -> None:
    """`{parameters:}` is a sparsity, which the search stops at."""
    path = workspace.folder / "spec.yaml"
    path.write_text(SPEC.replace("[0.7, 0.9, 0.95]", "[0.9, {parameters: 1500}]"), encoding="utf-8")
    step = compiled(path).steps["search/one/seed0"]

    assert len(step.options["sparsities"]) == 2


def test_masks_are_the_highest_of_the_order(workspace: Workspace) -> None:
    """Layer by layer, within the quotas of the search."""
    path = workspace.folder / "spec.yaml"
    path.write_text(SPEC, encoding="utf-8")
    workspace.run("run", "spec.yaml", "--quiet", "--only", "mask/one/0.9/seed0")
    plan, store = compiled(path), Store(workspace.cache)
    search, mask = plan.steps["search/one/seed0"], plan.steps["mask/one/0.9/seed0"]
    order = StagesResult.read(store.open(search.operation, search.key)).order
    for name, kept in read_masks(store.open(mask.operation, mask.key)).masks.items():
        assert float(order[name][kept].min()) > float(order[name][~kept].max()), name
    assert all(torch.isfinite(values).all() for values in order.values())
