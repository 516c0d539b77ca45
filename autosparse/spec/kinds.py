"""Types of values that several sections of a spec have: registered choices, recipes, lists of things, seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Lt, MinLen
from pydantic import AfterValidator, BeforeValidator

from autosparse.core.allocation import allocations
from autosparse.core.criteria import criteria
from autosparse.core.graph.repair import repairs
from autosparse.core.schedule import schedules
from autosparse.core.scorers import scorers
from autosparse.core.selection import selections
from autosparse.core.training.loop import Recipe
from autosparse.datasets import datasets
from autosparse.exporters import exporters
from autosparse.models import models
from autosparse.spec.choices import Choice, choice_of, different, section_of
from autosparse.trackers import trackers

if TYPE_CHECKING:
    # For type checkers a choice is a Choice; at run time it is the union of all that are registered.
    Training = Recipe
    ModelChoice = Choice
    DatasetChoice = Choice
    CriterionChoice = Choice
    AllocationChoice = Choice
    SelectionChoice = Choice
    ScheduleChoice = Choice
    RepairChoice = Choice
    ScorerChoice = Choice
    FormatChoice = Choice
    TrackerChoice = Choice
else:
    Training = section_of(Recipe)
    ModelChoice, DatasetChoice = choice_of(models), choice_of(datasets)
    CriterionChoice, AllocationChoice = choice_of(criteria), choice_of(allocations)
    SelectionChoice, ScheduleChoice = choice_of(selections), choice_of(schedules)
    RepairChoice, ScorerChoice = choice_of(repairs), choice_of(scorers)
    FormatChoice, TrackerChoice = choice_of(exporters), choice_of(trackers)


def listed(value: Any) -> Any:
    """One thing, where several are due, is a list of it."""
    return value if isinstance(value, list | tuple) else (value,)


Seed = Annotated[int, Ge(0), Lt(2**63)]
Seeds = Annotated[
    tuple[Seed, ...],
    MinLen(1),
    AfterValidator(different),
    BeforeValidator(listed, json_schema_input_type=Seed | Annotated[tuple[Seed, ...], MinLen(1)]),
]
