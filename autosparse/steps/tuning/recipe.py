"""choose_recipe: the values of a recipe's fields with which a method is most accurate on validation images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autosparse.steps._base import Context, operations
from autosparse.steps.train import EvaluateResult, read_trained
from autosparse.steps.tuning.chosen_recipe import ChosenRecipe
from autosparse.steps.workload import LINE, Facts, Workload


def choose_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of reading the candidates' accuracies."""
    return Workload({}, {"step": 1}, (), LINE, depends_on_network=False, runs_network=False)


@operations.register(
    result=ChosenRecipe,
    cost=choose_cost,
    spec_paths={"values": "compare", "train.*": "values in `compare`", "evaluate.*": "values in `compare`"},
)
def choose_recipe(context: Context, *, values: list[dict[str, Any]]) -> None:
    """Choose among `values`: trainings in inputs `train.N`, accuracies in `evaluate.N`. Of ties the first is taken."""
    reached = [
        None if read_trained(train).diverged else EvaluateResult.read(evaluation).validation_accuracy
        for train, evaluation in zip(context.roles("train").values(), context.roles("evaluate").values(), strict=True)
    ]
    known = [accuracy for accuracy in reached if accuracy is not None]
    number = reached.index(max(known)) if known else 0
    ChosenRecipe(values, reached, number).write(context.output)
