"""Tickets: initial weights and their masks, found on some images, prune networks for others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from autosparse import prune
from autosparse.errors import AutosparseWarning, SpecError, UsageError
from autosparse.models import build_model
from autosparse.planning.model import Plan, Step
from autosparse.steps import check
from autosparse.steps.init import InitResult
from autosparse.steps.irp import RewindResult
from autosparse.steps.mask_result import read_masks
from autosparse.steps.tickets.folder import load_ticket, read_ticket
from autosparse.steps.tickets.orders import TicketResult
from autosparse.store import Artifact, Store
from tests.conftest import Workspace
from tests.plans import compiled

SPEC = """\
model: {name: resnet8, width: 4}
dataset: {name: digits, classes: [5, 6, 7], validation: 100, test: 100}
method: ticket
ticket: {dataset: {name: digits, classes: [0, 1, 2, 3, 4]}, method: SEARCH, sparsities: [0.7, 0.9]}
controls: [shuffle, other_weights]
emit: []
budget: [0.7, 0.9]
seeds: [0, 1]
target: {device: cpu, threads: 1}
training: {epochs: 1, batch: 256, lr: 0.05, crop: 0, flip: false, precision: float32}
irp: {per_round: 0.5}
compare: []
"""
SEARCH = "{preset: mask_search, allocation: igq, horizon: 6}"


def written(workspace: Workspace, method: str = SEARCH, **changes: str) -> Path:
    """The spec, with changed lines."""
    text = SPEC.replace("SEARCH", method)
    for name, value in changes.items():
        lines = [f"{name}: {value}" if line.startswith(f"{name}:") else line for line in text.splitlines()]
        text = "\n".join(lines)
    path = workspace.folder / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def opened(workspace: Workspace, plan: Plan, name: str) -> Artifact:
    """The artifact of a step."""
    step: Step = plan.steps[name]
    return Store(workspace.cache).open(step.operation, step.key)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished run whose ticket is from a search; look, do not touch."""
    workspace = Workspace(tmp_path_factory.mktemp("tickets"))
    written(workspace)
    ended = workspace.run("run", "spec.yaml", "--quiet")
    assert ended.code == 0, ended.err
    return workspace


def test_networks_start_from_the_ticket(run: Workspace) -> None:
    """All tensors but the head, for other classes, are the source network's; the control starts from its seed."""
    plan = compiled(run.folder / "spec.yaml")
    source = InitResult.read(opened(run, plan, "init/resnet8/seed300")).state
    for seed in (0, 1):
        start = InitResult.read(opened(run, plan, f"init/resnet8/seed{seed}/ticket"))
        plain = InitResult.read(opened(run, plan, f"init/resnet8/seed{seed}")).state
        heads = {name for name in plain if name.startswith("head.")}
        assert all(torch.equal(start.state[name], plain[name]) for name in heads)
        assert all(torch.equal(start.state[name], source[name]) for name in plain if name not in heads)
        assert ["not in the ticket, so initialized at the seed: head.weight, head.bias"] == [*start.notes]
    begins = {name: plan.steps[f"train/ticket{name}/0.9/seed0"].inputs["init"] for name in ("", ".shuffle")}
    assert {*begins.values()} == {"init/resnet8/seed0/ticket"}
    assert plan.steps["train/ticket.other_weights/0.9/seed0"].inputs["init"] == "init/resnet8/seed0"


def test_masks_are_the_tickets(run: Workspace) -> None:
    """The body has the same masks at every seed and on other weights, from the top of the ticket's order."""
    plan = compiled(run.folder / "spec.yaml")
    order = TicketResult.read(opened(run, plan, "ticket/resnet8/seed300")).order
    names = [f"mask/ticket{control}/0.9/seed{seed}" for control in ("", ".other_weights") for seed in (0, 1)]
    masks = [read_masks(opened(run, plan, name)).masks for name in names]
    for layer in (layer for layer in order if layer != "head.weight"):
        assert all(torch.equal(masks[0][layer], other[layer]) for other in masks[1:]), layer
        assert float(order[layer][masks[0][layer]].min()) > float(order[layer][~masks[0][layer]].max())
    assert not torch.equal(masks[0]["head.weight"], masks[1]["head.weight"])
    report = json.loads((run.folder / "runs" / "spec-1" / "report.json").read_text())
    assert any("the ticket has no head.weight: pruned at random there" in text for text in report["warnings"])


def test_a_ticket_costs_its_users_nothing(run: Workspace) -> None:
    """The cost of the masks is not that of the search, which is part of the plan once."""
    plan = compiled(run.folder / "spec.yaml")
    report = json.loads((run.folder / "runs" / "spec-1" / "report.json").read_text())

    assert ["ticket/resnet8/seed300/search"] == [step.name for step in plan.of("search_stages")]
    assert {0.0} == {cost["trainings"] for cost in report["mask_costs"] if cost["method"] == "ticket"}
    assert {step.purpose for step in plan.steps.values() if "seed300" in step.name} == {"ticket"}


def test_a_ticket_of_the_same_images_costs_its_search(workspace: Workspace) -> None:
    """Where the search looked at the network's own images, the report counts it."""
    written(workspace, dataset="{name: digits, classes: [0, 1, 2, 3, 4]}", budget="[0.9]", seeds="[0]")
    ended = workspace.run("run", "spec.yaml", "--quiet")
    assert ended.code == 0, ended.err
    report = json.loads((workspace.folder / "runs" / "spec-1" / "report.json").read_text())
    costs = {cost["method"]: cost["trainings"] for cost in report["mask_costs"]}

    assert costs["ticket"] > 0


def test_another_dataset_reuses_the_ticket(run: Workspace, workspace: Workspace) -> None:
    """A spec with other classes and budgets has only its own networks to run."""
    shutil.copytree(run.cache, workspace.cache)
    written(workspace, dataset="{name: digits, classes: [7, 8, 9], validation: 100, test: 100}", budget="[0.5]")
    planned = workspace.run("plan", "spec.yaml", "--json").json
    status = {step["name"]: step["status"] for step in planned["steps"]}

    assert {"reuse"} == {status[name] for name in status if "seed300" in name}
    assert status["mask/ticket/0.5/seed0"] == "run"


def test_a_search_goes_on_from_the_ticket(workspace: Workspace) -> None:
    """With a horizon the masks begin as the ticket's, on its weights; without steps that change them they stay so."""
    method = "{name: NAME, preset: ticket, horizon: 3, schedule: {name: search, anneal: 0.0, score_lr: RATE}}"
    searches = [method.replace("NAME", name).replace("RATE", rate) for name, rate in (("still", "1e-9"), ("on", "0.5"))]
    path = written(workspace, compare=f"[{', '.join(searches)}]", seeds="[0]", budget="[0.9]")
    ended = workspace.run("run", "spec.yaml", "--quiet", "--only", "mask/*/0.9/seed0")
    assert ended.code == 0, ended.err
    plan = compiled(path)
    masks = {name: read_masks(opened(workspace, plan, f"mask/{name}/0.9/seed0")).masks for name in ("still", "on")}
    ticket = read_masks(opened(workspace, plan, "mask/ticket/0.9/seed0")).masks
    body = [layer for layer in ticket if layer != "head.weight"]

    assert all(torch.equal(ticket[layer], masks["still"][layer]) for layer in body)
    assert any(not torch.equal(ticket[layer], masks["on"][layer]) for layer in body)
    assert plan.steps["mask/on/0.9/seed0"].inputs["init"] == "init/resnet8/seed0/ticket"


def test_irp_finds_tickets_too(workspace: Workspace) -> None:
    """Rounds on the source's images, as many as the strictest sparsity takes; a state to rewind to is its start."""
    spec = written(workspace, "irp", irp="{per_round: 0.5, epochs: 1, rewind_to: 1}", seeds="[0]")
    ended = workspace.run("run", "spec.yaml", "--quiet", "--only", "mask/ticket/0.9/seed0")
    assert ended.code == 0, ended.err
    plan = compiled(spec)
    assert len(plan.of("irp")) == 4
    ticket = opened(workspace, plan, "ticket/resnet8/seed300")
    check(ticket)
    result = TicketResult.read(ticket)
    assert result.made_by == "irp"
    dense = InitResult.read(opened(workspace, plan, "init/resnet8/seed300")).state
    assert any(not torch.equal(dense[name], part) for name, part in result.state.items())


def test_a_search_may_begin_after_some_steps(workspace: Workspace) -> None:
    """The weights after `rewind_to` steps of training are the ticket's, and those that its search begins with."""
    path = written(workspace, seeds="[0]", budget="[0.9]")
    path.write_text(path.read_text().replace("sparsities:", "rewind_to: 1, sparsities:"))
    ended = workspace.run("run", "spec.yaml", "--quiet", "--only", "mask/ticket/0.9/seed0")
    assert ended.code == 0, ended.err
    plan = compiled(path)
    result = TicketResult.read(opened(workspace, plan, "ticket/resnet8/seed300"))
    state = RewindResult.read(opened(workspace, plan, "ticket/resnet8/seed300/rewind")).state
    dense = InitResult.read(opened(workspace, plan, "init/resnet8/seed300")).state
    assert all(torch.equal(state[name], part) for name, part in result.state.items())
    assert any(not torch.equal(dense[name], part) for name, part in result.state.items())
    assert plan.steps["ticket/resnet8/seed300/search"].inputs["rewind"] == "ticket/resnet8/seed300/rewind"
    path.write_text(path.read_text().replace("rewind_to: 1", "rewind_to: 99"))
    with pytest.raises(UsageError, match="is not before the end of the 2 steps"):
        compiled(path)


def test_a_run_leaves_its_ticket(run: Workspace, workspace: Workspace) -> None:
    """Another spec names the folder; its masks and initial weights are the same as from the search."""
    folder = run.folder / "runs" / "spec-1" / "ticket"
    about = read_ticket(folder)
    assert (about["classes"], about["seed"], about["made_by"]) == (5, 300, "search")
    card = json.loads((folder / "card.json").read_text())
    assert card["ticket"]["method"]["schedule"]["name"] == "search"
    first = compiled(run.folder / "spec.yaml")
    text = written(workspace).read_text()
    begin = text.index("ticket: {")
    text = text.replace(text[begin : text.index("\n", begin)], f"ticket: {folder}")
    (workspace.folder / "spec.yaml").write_text(text)
    ended = workspace.run("run", "spec.yaml", "--quiet", "--only", "mask/ticket/0.9/seed0")
    assert ended.code == 0, ended.err
    plan = compiled(workspace.folder / "spec.yaml")
    assert "kept_ticket" in {step.operation for step in plan.steps.values()}
    check(opened(workspace, plan, "ticket"))
    ours, theirs = (
        read_masks(opened(home, one, "mask/ticket/0.9/seed0")).masks for home, one in ((workspace, plan), (run, first))
    )
    assert all(torch.equal(mask, theirs[name]) for name, mask in ours.items())


def network(seed: int, classes: int = 3) -> nn.Module:
    """A network of one's own loop, of the ticket's family."""
    torch.manual_seed(seed)
    return build_model("resnet8", {"width": 4}, (1, 8, 8), classes)


@pytest.mark.filterwarnings("ignore::autosparse.errors.AutosparseWarning")
def test_prune_takes_a_ticket(run: Workspace) -> None:
    """The masks of the spec's run; initial weights only when asked for, and the head keeps its own."""
    folder = run.folder / "runs" / "spec-1" / "ticket"
    ticket, model = load_ticket(folder), network(5)
    before = {name: part.clone() for name, part in model.state_dict().items()}
    masks = prune(model, sparsity=0.9, method="ticket", ticket=folder)
    assert all(torch.equal(before[name], part) for name, part in model.state_dict().items())
    again = prune(model, sparsity=0.9, method="ticket", ticket=folder, initialize=True)
    assert masks == again
    for name, part in model.state_dict().items():
        expected = before[name] if name.startswith("head.") else ticket.state[name]
        assert torch.equal(expected, part), name
    theirs = read_masks(opened(run, compiled(run.folder / "spec.yaml"), "mask/ticket/0.9/seed0")).masks
    assert all(torch.equal(masks[name], mask) for name, mask in theirs.items() if name != "head.weight")


def test_prune_says_what_is_missing(run: Workspace) -> None:
    """Masks on other weights and layers without a mask are warnings; other mistakes are errors with a hint."""
    folder = run.folder / "runs" / "spec-1" / "ticket"
    with pytest.warns(AutosparseWarning) as given:
        prune(network(5), sparsity=0.9, method="ticket", ticket=folder)
    texts = [str(one.message) for one in given]
    assert len(texts) == 2
    assert "head.weight: pruned at random" in texts[0]
    assert "belong to its initial weights" in texts[1]
    cases: list[tuple[dict[str, Any], str]] = [
        ({"method": "ticket"}, "needs a ticket"),
        ({"method": "magnitude", "ticket": folder}, "takes no ticket"),
        ({"method": "magnitude", "initialize": True}, "there is none"),
        ({"method": "ticket", "ticket": folder.parent}, "it is not a ticket's folder"),
        ({"method": "ticket", "ticket": folder / "none"}, "there is no folder"),
    ]
    for options, message in cases:
        with pytest.raises(UsageError, match=message):
            prune(network(5), sparsity=0.9, **options)
    with pytest.raises(UsageError, match="no weight of ticket"):
        prune(nn.Linear(20, 20), sparsity=0.5, method="ticket", ticket=folder)


@pytest.mark.parametrize("file", ["ticket.json", "state.safetensors", "order.safetensors"])
def test_a_damaged_ticket_is_an_error(run: Workspace, tmp_path: Path, file: str) -> None:
    """A changed byte in any of its files, or a file that is missing."""
    folder = shutil.copytree(run.folder / "runs" / "spec-1" / "ticket", tmp_path / "ticket")
    data = bytearray((folder / file).read_bytes())
    data[-5] ^= 1
    (folder / file).write_bytes(data)
    with pytest.raises(UsageError, match="damaged"):
        load_ticket(folder)
    (folder / file).unlink()
    with pytest.raises(UsageError, match="not a ticket's folder"):
        load_ticket(folder)


@pytest.mark.parametrize(
    ("ticket", "message"),
    [
        ("{method: snip}", "`snip` learns no order of the weights"),
        ("{method: rigl}", "`rigl` learns no order of the weights"),
        ("{method: {preset: learned, horizon: 5}}", "needs a scorer, which a ticket has not"),
        ("{method: ticket}", "needs a ticket, which a ticket has not"),
        ("{method: {preset: mask_search, selection: sampled}}", "does not keep the highest scores"),
        ("{method: irp, rewind_to: 3}", "IRP rewinds to its own step"),
        ("{folder: x, seed: 3}", "is a ticket found earlier"),
        ("{sparsities: [0.9, 0.9]}", "sparsities"),
        ("{sparsities: [1.5]}", "must be below 1"),
        ("{dataset: nosuch}", "nosuch"),
    ],
)
def test_wrong_sections(workspace: Workspace, ticket: str, message: str) -> None:
    """Each is an error at its place."""
    path = written(workspace)
    text = path.read_text()
    begin = text.index("ticket: {")
    path.write_text(text.replace(text[begin : text.index("\n", begin)], f"ticket: {ticket}"))
    with pytest.raises(SpecError, match=message):
        compiled(path)


def test_a_folder_without_a_ticket(workspace: Workspace) -> None:
    """Is an error of the plan, at the value."""
    path = written(workspace)
    text = path.read_text()
    begin = text.index("ticket: {")
    path.write_text(text.replace(text[begin : text.index("\n", begin)], "ticket: nowhere"))

    assert "there is no folder" in workspace.run("plan", "spec.yaml").err
