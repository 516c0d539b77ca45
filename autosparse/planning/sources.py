"""Networks and their IRP in a plan: the steps that other steps take their inputs from."""

from __future__ import annotations

from collections.abc import Mapping

from autosparse.core.irp import rounds_to
from autosparse.core.training.recipe import training_steps_of
from autosparse.core.weights import keep_count
from autosparse.datasets import Source
from autosparse.errors import InvalidValue
from autosparse.models import identify_model, split_start
from autosparse.planning.builder import Builder, blame, facts_of, keyed_recipe
from autosparse.planning.model import PlannedBudget
from autosparse.planning.starts import plan_start
from autosparse.spec import Spec
from autosparse.spec.choices import Choice
from autosparse.spec.learning import MOST_ROUNDS
from autosparse.steps.init import START
from autosparse.store import digest


def source_paths(spec: Spec, seed: str, number: int = 0) -> dict[str, str]:
    """Return the paths for networks that labels come from: in the section `irp` where they differ from the spec's."""
    irp = spec.irp
    model = f"irp.models.{number}" if irp.models else "irp.model" if irp.model != spec.model else "model"
    return {"model": model, "identity": "irp.dataset" if irp.dataset != spec.dataset else "dataset", "seed": seed}


def recipe_paths(spec: Spec) -> dict[str, str]:
    """Return the paths for IRP's recipe, whose fields are those of `training` unless `irp` changes them."""
    recipe, shared = keyed_recipe(spec.irp.training), keyed_recipe(spec.training)
    paths = {f"training.{name}": f"irp.training.{name}" for name in recipe if recipe[name] != shared.get(name)}
    return paths | ({"training.epochs": "irp.epochs"} if "training.epochs" in paths else {})


def add_network(
    build: Builder, model: Choice, dataset: Choice, seed: int, purpose: str, paths: Mapping[str, str]
) -> dict[str, str]:
    """Add the steps of a network and its data, and return them by the roles that other steps use."""
    with blame(paths["identity"]):
        source = build.open(dataset)
    suffix = f"/{digest(dict(source.identity))[:6]}" if f"data/{dataset.short_name}" in build.steps else ""
    name, access = f"data/{dataset.short_name}{suffix}", {"name": dataset.name, "options": dataset.options()}
    identity = {"identity": dict(source.identity)}
    data = build.add(name, "data", identity, {}, purpose, access={"dataset": access}, paths=paths)
    build.sources.setdefault(data, source)
    with blame(paths["model"]):
        structure, weights = split_start(model.name, model.options())
        keyed = {**model.keyed(), "options": structure}
        if source.known or model.entry.pattern is None:
            keyed |= identify_model(model.name, structure, source.shape, source.classes)
    reach = {"model": {"name": model.name, "options": structure}} if model.entry.pattern else {}
    if weights is not None:
        with blame(f"{paths['model']}.initialization"):
            keyed[START] = weights.identity
        reach[START] = {"name": model.name, "options": model.options()}
        paths = {**paths, f"model.{START}": f"{paths['model']}.initialization"}
    options = {"model": keyed, "shape": list(source.shape), "classes": source.classes, "seed": seed}
    name = f"init/{model.short_name}/seed{seed}"
    suffix = f"/{digest(options)[:6]}" if name in build.steps else ""
    start = build.add(f"{name}{suffix}", "init", options, {}, purpose, access=reach, paths=paths)
    if weights is not None and start not in build.starts:
        build.starts[start] = plan_start(build.steps[start], weights, known=source.known)
    return {"init": start, "data": data}


def add_oracle_rounds(
    build: Builder, spec: Spec, network: Mapping[str, str], budget: PlannedBudget, seed: int, purpose: str
) -> dict[str, str]:
    """Add IRP of the network to prune, with exactly as many rounds as a budget needs, and return them by role."""
    irp, number = spec.irp, spec.irp.rounds
    assert isinstance(number, int)
    if build.sources[network["data"]].known and budget.sparsity is not None:
        total = facts_of(build.steps[network["init"]]).total
        keep = keep_count(total, budget.sparsity)
        number = rounds_to(total, irp.per_round, keep, irp.per_round_of, most=MOST_ROUNDS + 1)
        if number > MOST_ROUNDS:
            message = (
                f"`irp.per_round` {irp.per_round:g} takes more than {MOST_ROUNDS:,} rounds to sparsity {budget.name}"
            )
            raise InvalidValue(message, "such as 0.2", "irp.per_round")
    return add_rounds(build, spec, network, number, seed, f"{spec.model.short_name}/seed{seed}", purpose)


def add_rounds(
    build: Builder, spec: Spec, network: Mapping[str, str], number: int, seed: int, home: str, purpose: str
) -> dict[str, str]:
    """Add a number of rounds of IRP, and return them by role."""
    irp, inputs = spec.irp, dict(network)
    assert irp.training is not None, "compile takes a resolved spec"
    options = {
        "training": keyed_recipe(irp.training), "per_round": irp.per_round, "rank_by": irp.rank_by,
        "per_round_of": irp.per_round_of, "rewind_to": irp.rewind_to, "seed": seed,
    }  # fmt: skip
    of_seed = {"source": "irp.seeds", "ticket": "ticket.seed"}
    paths = {**recipe_paths(spec), "seed": of_seed.get(purpose, "seeds")}
    if irp.rewind_to:
        _check_rewind(spec, build.sources[network["data"]])
        about = {"training": options["training"], "steps": irp.rewind_to, "seed": seed}
        inputs["rewind"] = build.add(f"rewind/{home}", "rewind", about, inputs, purpose, paths=paths)
    rounds: dict[str, str] = {}
    for count in range(1, number + 1):
        previous = {"previous": rounds[f"round.{count - 1:04d}"]} if rounds else {}
        about, given = {**options, "number": count}, {**inputs, **previous}
        rounds[f"round.{count:04d}"] = build.add(f"irp/{home}/round{count}", "irp", about, given, purpose, paths=paths)
    return rounds


def _check_rewind(spec: Spec, source: Source) -> None:
    assert spec.irp.training is not None
    recipe = spec.irp.training
    if source.known and spec.irp.rewind_to >= (steps := training_steps_of(recipe, source.train_images)):
        message = f"`irp.rewind_to` {spec.irp.rewind_to} is not before the end of the {steps} steps of a round"
        raise InvalidValue(message, f"such as {max(1, steps // 10)}", "irp.rewind_to")
