"""Orders of weights in a plan: one search for all budgets, tickets, and the masks taken from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autosparse.core.irp import rounds_to
from autosparse.core.training.recipe import of_a_step, training_steps_of
from autosparse.core.weights import keep_count
from autosparse.errors import InvalidValue
from autosparse.planning.builder import Builder, blame, facts_of, keyed_recipe
from autosparse.planning.cells import Named
from autosparse.planning.model import PlannedBudget
from autosparse.planning.sources import add_network, add_rounds
from autosparse.spec import Method, Spec
from autosparse.spec.method import searched, written_out
from autosparse.steps.tickets.folder import read_ticket


def add_stages(
    build: Builder,
    one: Named,
    inputs: Mapping[str, str],
    budgets: Sequence[PlannedBudget],
    options: Mapping[str, Any],
    paths: Mapping[str, str],
) -> str:
    """Add the search whose order has the masks of all budgets, and return its step.

    `options` are those of the method's masks at one budget. Raises InvalidValue for a budget that is no number of
    weights.
    """
    for budget in budgets:
        if budget.amount is not None and (budget.is_latency or "macs" in budget.options.get("budget", ())):
            message = f"one search for all budgets takes budgets in weights, but one is {budget.label}"
            raise InvalidValue(message, "remove `shared`", f"{one.path}.schedule.shared")
    sparsities = sorted({budget.sparsity for budget in budgets if budget.sparsity is not None})
    about = {name: options[name] for name in ("method", "training", "seed")}
    name = f"search/{one.name}/seed{options['seed']}"
    about["sparsities"] = sparsities or [0.0]  # unknown until the images exist; no key is final until then
    return build.add(name, "search_stages", about, inputs, one.purpose, paths=paths)


def ordered(options: Mapping[str, Any], method: Method) -> dict[str, Any]:
    """Return the options of a mask that is taken from an order, for those of a method's mask."""
    parts = method.model_dump(exclude={"horizon", "schedule", "criterion"})
    chosen = Method.model_validate({**parts, "criterion": "order", "schedule": "one_shot"})
    rest = {name: value for name, value in options.items() if name != "training"}
    return {**rest, "method": {part: choice for part, choice in chosen.choices().items() if part != "updates"}}


def add_ticket(build: Builder, spec: Spec) -> str:
    """Add the ticket of a spec, with its network and the search or the rounds that find it; return its step."""
    asked = spec.ticket
    if asked.folder is not None:
        with blame("ticket.folder"):
            about = read_ticket(asked.folder)
        return build.add("ticket", "kept_ticket", {"ticket": about}, {}, "ticket", access={"ticket": asked.folder})
    paths = {
        "model": "ticket.model" if asked.model else "model",
        "identity": "ticket.dataset" if asked.dataset else "dataset",
        "seed": "ticket.seed",
    }
    network = add_network(build, asked.model or spec.model, asked.dataset or spec.dataset, asked.seed, "ticket", paths)
    source, home = build.sources[network["data"]], f"ticket/{build.steps[network['init']].name.partition('/')[2]}"
    if asked.method.needs_rounds:
        number = 1
        if source.known:
            total = facts_of(build.steps[network["init"]]).total
            keep = keep_count(total, max(asked.sparsities))
            number = rounds_to(total, spec.irp.per_round, keep, spec.irp.per_round_of)
        rounds = add_rounds(build, spec, network, number, asked.seed, home, "ticket")
        first = build.steps[rounds["round.0001"]].inputs
        given = {**network, **rounds, **({"rewind": first["rewind"]} if "rewind" in first else {})}
        return build.add(home, "ticket", {}, given, "ticket")
    steps = training_steps_of(spec.training, source.train_images) if source.known else 1
    method = searched(written_out(asked.method), steps)
    options = {
        "method": method.choices(), "sparsities": sorted(asked.sparsities), "seed": asked.seed,
        "training": of_a_step(keyed_recipe(spec.training)),
    }  # fmt: skip
    of_search = {name: f"ticket.{name}" for name in ("method", "sparsities", "seed")}
    if asked.method.horizon is not None:
        of_search["method.schedule.options.steps"] = "ticket.method.horizon"
    if asked.rewind_to:
        if source.known and asked.rewind_to >= steps:
            message = f"`ticket.rewind_to` {asked.rewind_to} is not before the end of the {steps} steps of a training"
            raise InvalidValue(message, f"such as {max(1, steps // 10)}", "ticket.rewind_to")
        about = {"training": keyed_recipe(spec.training), "steps": asked.rewind_to, "seed": asked.seed}
        of_start = {"seed": "ticket.seed", "steps": "ticket.rewind_to"}
        network["rewind"] = build.add(f"{home}/rewind", "rewind", about, network, "ticket", paths=of_start)
    order = build.add(f"{home}/search", "search_stages", options, network, "ticket", paths=of_search)
    return build.add(home, "ticket", {}, {**network, "order": order}, "ticket")


def add_start(build: Builder, network: Mapping[str, str], ticket: str, purpose: str) -> dict[str, str]:
    """Add a network that starts from a ticket's initial weights, and return its steps by role."""
    plain = build.steps[network["init"]]
    name = f"{plain.name}/ticket"
    start = build.add(
        name, "init", plain.options, {"ticket": ticket}, purpose, access=plain.access, paths=plain.origins
    )
    return {**network, "init": start}
