"""The networks of a comparison in a plan: training, evaluation and export of one method, budget and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from autosparse.core.training.under_masks import without_masks
from autosparse.planning.builder import Builder, keyed_recipe, tag_of
from autosparse.planning.model import Candidate, Cell, PlannedBudget
from autosparse.spec import DENSE, Method, Spec

REFERENCE = "reference"
"""The role of a dense network that is trained for another length."""

_WHOLE = (DENSE, REFERENCE)


Recipes: TypeAlias = "dict[str, tuple[str, tuple[Candidate, ...]]]"
"""method and budget -> the step that chooses its recipe, and the trainings that it chooses from"""


class Named(NamedTuple):
    """A method of the comparison; None for a control that permutes masks, and for the dense network."""

    name: str
    method: Method | None
    role: str
    starts_from_ticket: bool = False

    @property
    def purpose(self) -> str:
        return "network" if self.role == "method" else "comparison"

    @property
    def path(self) -> str:
        return f"compare.{self.name}" if self.role == "compared" else "method"


def add_cell(
    build: Builder, spec: Spec, inputs: Mapping[str, str], one: Named, budget: PlannedBudget, seed: int, recipe: Recipes
) -> Cell:
    """Add the training and the evaluation of one network to a plan.

    Where methods choose their recipe, the first seed also adds the trainings that they choose from. `recipe` collects
    the choices.
    """
    path = one.name if one.role in _WHOLE else f"{one.name}/{budget.name}"
    training, given = _recipe(spec.training, one), dict(inputs)
    if (values := [*spec.recipes]) and path not in recipe:
        recipe[path] = _candidates(build, spec, values, inputs, one, budget, path, seed)
    step, candidates = recipe.get(path, ("", ()))
    candidates = candidates if seed == spec.seeds[0] else ()
    if step:
        training = {name: value for name, value in training.items() if name not in spec.per_method}
        of_candidates = {f"candidate.{number:04d}": tried.train for number, tried in enumerate(candidates)}
        inputs = {**inputs, "recipe": step, **of_candidates}
    about = {"training": training, "seed": seed, **({"values": values} if step else {})}
    given["train"] = _train(build, f"train/{path}/seed{seed}", inputs, one, budget, about)
    if one.method is not None and one.method.updates_masks:
        base = {role: given[role] for role in ("init", "data", "train")}
        name = f"final_mask/{path}/seed{seed}"
        given["mask"] = build.add(name, "final_mask", {"seed": seed}, base, one.purpose)
    about = {"precision": spec.training.precision}
    evaluate = build.add(f"evaluate/{path}/seed{seed}", "evaluate", about, given, one.purpose)
    trained, mask = given["train"], given.get("mask")
    budget_of = (budget.label, budget.sparsity)
    return Cell(one.name, *budget_of, seed, one.role, trained, evaluate, mask, step, candidates)


def add_dense(
    build: Builder, spec: Spec, inputs: Mapping[str, str], seed: int, recipe: Recipes, length: float | None = None
) -> Cell:
    """Add the dense network of the comparison; with a `length`, one that is trained that many times as long."""
    one, training = Named(DENSE, None, DENSE), spec.training
    if length is not None:
        longer: Any = training
        spec = spec.model_copy(update={"training": longer.model_copy(update={"epochs": length * training.epochs})})
        one = Named(f"{DENSE}-{length}x".replace(".0x", "x"), None, REFERENCE)
    return add_cell(build, spec, inputs, one, PlannedBudget("0.0", 0.0), seed, recipe)


def _recipe(training: Any, one: Named) -> dict[str, Any]:
    return without_masks(keyed_recipe(training)) if one.role in _WHOLE else keyed_recipe(training)


def _train(
    build: Builder,
    name: str,
    inputs: Mapping[str, str],
    one: Named,
    budget: PlannedBudget,
    about: Mapping[str, Any],
    origins: Mapping[str, str] | None = None,
) -> str:
    if one.method is None or not one.method.updates_masks:
        return build.add(name, "train", about, inputs, one.purpose, paths=origins)
    options = {"method": one.method.choices(), **budget.options, **about}
    paths = {"method": one.path, **(origins or {})}
    return build.add(name, "sparse_train", options, inputs, one.purpose, paths=paths)


def _candidates(
    build: Builder,
    spec: Spec,
    recipes: Sequence[dict[str, Any]],
    inputs: Mapping[str, str],
    one: Named,
    budget: PlannedBudget,
    path: str,
    seed: int,
) -> tuple[str, tuple[Candidate, ...]]:
    # A training and an evaluation for each combination of values, and the step that chooses.
    made = []
    roles = ("init", "data") if one.method is not None and one.method.updates_masks else (*inputs,)
    for values in recipes:
        training = _recipe(spec.training.model_copy(update=values), one)  # type: ignore[attr-defined]
        tag = "-".join(f"{name}-{value}" for name, value in values.items())
        about = {"training": training, "seed": seed, "attempt": True}
        origins = {f"training.{name}": f"compare.{name}" for name in values}
        train = _train(build, f"train/{path}/seed{seed}/{tag}", inputs, one, budget, about, origins)
        given = {**{role: inputs[role] for role in roles}, "train": train}
        about = {"precision": spec.training.precision}
        evaluate = build.add(f"evaluate/{path}/seed{seed}/{tag}", "evaluate", about, given, one.purpose)
        made.append(Candidate(values, train, evaluate))
    tried = {f"train.{number:04d}": candidate.train for number, candidate in enumerate(made)}
    tried |= {f"evaluate.{number:04d}": candidate.evaluate for number, candidate in enumerate(made)}
    step = build.add(f"recipe/{path}", "choose_recipe", {"values": [*recipes]}, tried, one.purpose)
    return step, tuple(made)


def emit_cell(build: Builder, spec: Spec, cell: Cell, budget: PlannedBudget, cells: Sequence[Cell]) -> None:
    """Add the export of one network in every format."""
    inputs = {**build.steps[cell.evaluate].inputs, "evaluate": cell.evaluate}
    classes = list(build.sources[inputs["data"]].class_names)
    others = {
        f"{one.role}.{one.method}.{one.seed}": one.evaluate
        for one in cells
        if one.budget == cell.budget and one.role in ("method", "control") and one is not cell
    }
    for format in spec.emit:
        chosen = format.keyed()
        options = {
            "format": format.name, "format_version": chosen["version"], "method": cell.method, **budget.options,
            "seed": cell.seed, "classes": classes, "options": chosen["options"],
        }  # fmt: skip
        given = {**inputs, **(others if format.entry.facts.get("others") else {})}
        name = f"emit/{tag_of(format)}/{cell.method}/{budget.name}/seed{cell.seed}"
        build.add(name, "emit", options, given, "emission")
