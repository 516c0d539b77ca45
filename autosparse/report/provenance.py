"""Provenance of a run: its plan, the recipes of its networks, and the environments that made its artifacts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import fields
from statistics import fmean
from typing import Any

from autosparse.report.finished import Finished
from autosparse.report.recipes import MethodRecipe, Tried
from autosparse.report.schema import Environment, Provenance, Report
from autosparse.steps.train import EvaluateResult
from autosparse.steps.tuning.chosen_recipe import ChosenRecipe

_FACTS = tuple(field.name for field in fields(Environment) if field.name != "steps")


def describe_provenance(finished: Finished) -> Provenance:
    """Return the provenance of a plan's finished steps; cached artifacts may come from other environments."""
    steps: Counter[tuple[Any, ...]] = Counter()
    times = []
    for step in finished.steps():
        about = finished.open(step.name).descriptor
        times.append(str(about.get("created", "")))
        if made := about.get("environment"):
            steps[tuple(made.get(name) for name in _FACTS)] += 1
    environments = [
        Environment(**dict(zip(_FACTS, facts, strict=True)), steps=count)
        for facts, count in steps.most_common()
        if None not in facts
    ]
    spec = finished.plan.spec
    return Provenance(
        finished=max(times, default=""),
        digest=finished.plan.digest,
        seeds=list(spec.seeds),
        recipe=spec.model_dump(mode="json")["training"],
        environments=environments,
    )


def describe_recipes(finished: Finished) -> Iterator[MethodRecipe]:
    """Yield the recipe of every method and budget that chose its own."""
    for cell in finished.plan.cells:
        names = [cell.recipe, *(one.evaluate for one in cell.candidates)]
        if not cell.candidates or not all(map(finished.has, names)):
            continue
        result = ChosenRecipe.read(finished.open(cell.recipe))
        candidates = []
        for one, validation in zip(cell.candidates, result.accuracies, strict=True):
            test = EvaluateResult.read(finished.open(one.evaluate)).test_accuracy
            candidates.append(Tried(one.values, validation, None if validation is None else test))
        yield MethodRecipe(cell.method, cell.budget, candidates, result.number)


_WIDEST = 4  # candidates that have a column each


def common_recipe(report: Report) -> int:
    """Return the number of the candidate with the best mean validation accuracy of all methods and budgets."""
    tried = [[one.validation_accuracy or 0.0 for one in recipe.candidates] for recipe in report.recipes]
    means = [fmean(values) for values in zip(*tried, strict=True)]
    return means.index(max(means))


def recipe_table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Return titles and rows: validation accuracy of each candidate, then test accuracy at the common one and its own.

    All are of the first seed, in percent; `*` marks the chosen candidate. Of many candidates the chosen one is named.
    """
    if not report.recipes:
        return [], []
    budgets = {recipe.budget for recipe in report.recipes if recipe.method != "dense"}
    common, several = common_recipe(report), len(budgets) > 1
    titles = [in_words(one.values) for one in report.recipes[0].candidates]
    rows = []
    for recipe in report.recipes:
        shown = [
            _accuracy(one.validation_accuracy) + ("*" if number == recipe.chosen and _is_known(one) else " ")
            for number, one in enumerate(recipe.candidates)
        ]
        if len(titles) > _WIDEST:
            chosen = recipe.candidates[recipe.chosen]
            shown = [in_words(chosen.values), _accuracy(chosen.validation_accuracy)]
        tests = [_accuracy(recipe.candidates[number].test_accuracy) for number in (common, recipe.chosen)]
        where = f", {recipe.budget}" if several and recipe.method != "dense" else ""
        rows.append([f"{recipe.method}{where}", *shown, *tests])
    shown_titles = ["chosen", "validation"] if len(titles) > _WIDEST else titles
    return ["method", *shown_titles, f"test, {titles[common]}", "test, chosen"], rows


def _is_known(one: Tried) -> bool:
    return one.validation_accuracy is not None


def in_words(values: Mapping[str, Any]) -> str:
    """Return values of the recipe's fields in words, such as `lr 0.1`."""
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _accuracy(value: float | None) -> str:
    return "diverged" if value is None else f"{value:.2f}"
