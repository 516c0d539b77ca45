"""The sanity checks of a plan, and the controls that a method must beat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from autosparse.core.presets import OTHER_WEIGHTS, SMALLER
from autosparse.core.sanity import is_shuffled_by_selection, left_out
from autosparse.planning.builder import Builder, keyed_recipe
from autosparse.planning.model import Cell, Check, PlannedBudget, strictest
from autosparse.spec import BEST, Method, Spec
from autosparse.store import digest


def plan_checks(build: Builder, spec: Spec, cells: Sequence[Cell], budgets: Sequence[PlannedBudget]) -> Iterator[Check]:
    """Add the checks of a resolved spec; those of the best baseline take all baselines as candidates."""
    if spec.sanity is None:
        return
    assert spec.sanity.methods != "auto", "plan_checks takes a resolved spec"
    named = spec.sanity.budget
    budget = strictest(budgets) if named == "max" else budgets[spec.budget.index(named)]
    shared = {"training": keyed_recipe(spec.training), **budget.options}
    seeds = spec.seeds[: spec.sanity.seeds]
    placed = {(cell.method, cell.seed): cell for cell in cells if cell.budget == budget.label}
    for subject in spec.sanity.methods:
        methods = spec.baselines if subject == BEST else [item for item in spec.methods if item.name == subject]
        candidates = {_id(method): method.choices() for method in methods}
        names = {_id(method): method.name for method in methods}
        for seed in seeds:
            inputs = _inputs(build, names, placed, seed, seeds)
            for check in spec.sanity.checks:
                planned = partial(Check, subject, check, budget.label, seed, names)
                reasons = [left_out(check, method) for method in candidates.values()]
                control = placed.get((f"{subject}.{check}", seed))
                if all(reasons):
                    yield planned(None, reasons[0])
                elif control and control.role == "control":
                    yield planned(control.evaluate)
                else:
                    name = f"sanity/{subject}/{budget.name}/seed{seed}/{check}"
                    options = {"check": check, "candidates": candidates, **shared, "seed": seed}
                    yield planned(build.add(name, "sanity", options, inputs, "sanity"))


def _id(method: Method) -> str:
    # The identity of a method, independent of its name: names are not part of keys.
    return digest(method.choices())[:12]


def _inputs(
    build: Builder, names: Mapping[str, str], placed: Mapping[tuple[str, int], Cell], seed: int, seeds: Sequence[int]
) -> dict[str, str]:
    # The candidates' masks and the inputs of those; of several, also the evaluations at all seeds, to choose the best.
    masks = {f"mask.{key}": placed[name, seed].mask or "" for key, name in names.items()}
    inputs = {role: step for mask in masks.values() for role, step in build.steps[mask].inputs.items()}
    if len(names) > 1:
        inputs |= {f"evaluate.{key}.{at}": placed[name, at].evaluate for key, name in names.items() for at in seeds}
    return {**inputs, **masks}


def controls_of(spec: Spec) -> Iterator[tuple[str, Method | None]]:
    """Yield name and method of each control; None for a control that permutes the finished masks within layers.

    A method that allocates once keeps its quotas with a random selection. With several rounds, a repair or quotas that
    change, the quotas would differ. Layer means are a control of methods that score once.
    """
    method, choices = spec.method, spec.method.choices()
    once = is_shuffled_by_selection(choices)
    for name in spec.ablations:
        if name == OTHER_WEIGHTS:
            yield f"{method.name}.{name}", method
        elif name in SMALLER:
            if (control := method.control(name)).choices() != choices:
                yield f"{method.name}.{name}", control
        elif name == "shuffle" and not left_out("shuffle", choices):
            yield f"{method.name}.{name}", method.control(name) if once else None
        elif name != "shuffle" and once and not method.criterion.entry.facts.get("shuffled"):
            yield f"{method.name}.{name}", method.control(name)
