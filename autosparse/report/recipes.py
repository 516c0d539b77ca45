"""Recipes that methods choose for themselves, and dense networks of several lengths, as parts of a report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator

from autosparse.steps._base import Count, Percent, Positive, numbers_in


def check_numbers(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a mapping of any form. Raises ValueError for a number that is not finite."""
    if not all(-math.inf < number < math.inf for number in numbers_in(value)):
        raise ValueError("a number is not finite")
    return value


@dataclass(frozen=True)
class Tried:
    """Values of the recipe's fields, and the accuracies of a network trained with them at the first seed, in percent.

    Accuracies are None for a training that diverged.
    """

    values: Annotated[Mapping[str, Any], AfterValidator(check_numbers)]
    validation_accuracy: Percent | None
    test_accuracy: Percent | None


@dataclass(frozen=True)
class MethodRecipe:
    """Choice of the recipe's fields for one method and budget: by validation accuracy at the first seed."""

    method: str
    budget: str
    candidates: Sequence[Tried]
    chosen: Count
    """number of the chosen candidate, from 0"""


@dataclass(frozen=True)
class Reference:
    """Dense network trained for a length in multiples of the recipe's epochs; accuracies are means over seeds.

    `trainings` is its counted work in dense trainings by the recipe; None where the data are unknown.
    """

    length: Annotated[float, Gt(0), Le(1e6)]
    trainings: Annotated[float, Ge(0), Le(1e100)] | None
    seconds: Annotated[float, Ge(0), Le(1e100)]
    seeds: Positive
    test_accuracy: Percent
    validation_accuracy: Percent
