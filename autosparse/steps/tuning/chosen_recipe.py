"""The recipe that a method has chosen, as the steps that train by it read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autosparse.core.training.recipe import Recipe
from autosparse.errors import Diverged
from autosparse.steps._base import Context, Count, Percent, StepResult


@dataclass(frozen=True)
class ChosenRecipe(StepResult):
    """The values of a recipe's fields that a method takes: of several candidates the best on validation images."""

    candidates: list[dict[str, Any]]
    accuracies: list[Percent | None]
    """validation accuracy of each candidate at the first seed, in percent; None for a training that diverged"""
    number: Count
    """the chosen one"""

    @property
    def chosen(self) -> dict[str, Any]:
        """The fields that the recipe is changed in."""
        return self.candidates[self.number]

    def check(self) -> None:
        """Compare the number of candidates with that of accuracies."""
        fits = len(self.candidates) == len(self.accuracies) > self.number
        self.require(fits, "result.json: `candidates`, `accuracies` and `number` do not fit")
        asked = self.asked.get("values", self.candidates)
        self.require(self.candidates == asked, "result.json: `candidates` are not those of the plan")


def recipe_of(context: Context, training: Mapping[str, Any], *, scaled: bool = True) -> Recipe:
    """Return the recipe of a training, with the fields that input `recipe` has chosen, if present.

    Without `scaled` the weights are not initial ones, and stay as they are. Raises Diverged if every candidate did.
    """
    chosen = _choice(context).chosen if "recipe" in context.inputs else {}
    return Recipe(**{**training, **chosen, **({} if scaled else {"rescale": 0.0})})


def takes_candidate(context: Context) -> bool:
    """Copy the training that input `recipe` chose among inputs `candidate.N`; False without such inputs.

    Raises Diverged if every candidate diverged.
    """
    if not (candidates := context.roles("candidate")):
        return False
    artifact = candidates[f"{_choice(context).number:04d}"]
    for name in artifact.files:
        context.output.write(name, artifact.read(name))
    return True


def _choice(context: Context) -> ChosenRecipe:
    result = ChosenRecipe.read(context.inputs["recipe"])
    if result.accuracies[result.number] is None:
        values = ", ".join(" ".join(map(str, pair)) for one in result.candidates for pair in one.items())
        raise Diverged(f"training diverged at all values in `compare`: {values}", "give a lower value")
    return result
