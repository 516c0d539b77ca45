"""The plan and its parts: steps, budgets, cells of the comparison, checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from autosparse.datasets import Source
from autosparse.models.facts import Network
from autosparse.spec import Amount, Spec
from autosparse.steps import operations
from autosparse.steps._base import StepResult
from autosparse.store import digest

PURPOSES = {
    "source": "source of labels",
    "scorer": "scorer",
    "network": "this network",
    "comparison": "comparison",
    "emission": "emission",
    "sanity": "sanity checks",
}
"""What steps are for -> what people read."""


@dataclass(frozen=True)
class Step:
    """One operation with all its options and inputs.

    `inputs` is role -> step name. `access` holds what a step needs but no key contains (file paths, downloads).
    `purpose` groups steps for reading: one of `PURPOSES`. `origins` is option -> path of the spec that it comes from,
    for options whose name is not that path; an option of a section is written `section.option`.
    """

    name: str
    operation: str
    version: int
    options: Mapping[str, Any]
    inputs: Mapping[str, str]
    key: str
    purpose: str
    access: Mapping[str, Any] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict, repr=False)

    @cached_property
    def network(self) -> Network:
        """The network that an `init` step makes."""
        about = self.options
        reach = self.access.get("model", about["model"])
        return Network(about["model"], reach["name"], reach["options"], tuple(about["shape"]), about["classes"])

    def gives(self, result: object) -> bool:
        """Return whether the step's artifact is read by this class of results."""
        return operations[self.operation].facts.get("result") is result

    def spec_path(self, option: Sequence[str]) -> str:
        """Return the path of the spec that an option comes from; the option is a path in `options`."""
        ends = range(len(option), 0, -1)
        end = next((end for end in ends if ".".join(option[:end]) in self.origins), 1)
        rest = [part for part in option[end:] if part != "options"]
        if rest[-1:] == ["name"]:
            rest.pop()
        return ".".join([self.origins.get(".".join(option[:end]), option[0]), *rest])


@dataclass(frozen=True)
class PlannedBudget:
    """A budget by what it is called: a sparsity where it is one, else an amount such as of multiply-adds."""

    label: str
    sparsity: float | None
    amount: Amount | None = None

    @property
    def name(self) -> str:
        return self.label.replace(" ", "-")

    @property
    def options(self) -> dict[str, Any]:
        """What of it the steps are told: a sparsity wherever it is one, so that equal masks have equal keys."""
        if self.amount is None:
            return {"sparsity": self.sparsity}
        return {"budget": {self.amount.currency: self.amount.amount}}


def strictest(budgets: Sequence[PlannedBudget]) -> PlannedBudget:
    """The budget that leaves least."""
    # Multiply-adds are no sparsity before masks are made: they count where there is nothing else.
    shares = [budget for budget in budgets if budget.sparsity is not None]
    if shares:
        return max(shares, key=lambda budget: budget.sparsity or 0.0)
    return min(budgets, key=lambda budget: budget.amount.amount if budget.amount else 0)


@dataclass(frozen=True)
class Cell:
    """One network of the comparison: a method within a budget and a seed, and its steps' names."""

    method: str
    budget: str
    """what the budget is called: `0.99`, `120k parameters`"""
    sparsity: float | None
    """None until masks are made, where it depends on them: within multiply-adds"""
    seed: int
    role: str
    """`method`, `control`, `compared` or `dense`"""
    train: str
    evaluate: str
    mask: str | None


@dataclass(frozen=True)
class Plan:
    """All steps in an order in which they can run, by name, and what is known to be missing."""

    name: str
    spec: Spec
    steps: Mapping[str, Step]
    sources: Mapping[str, Source] = field(repr=False)
    cells: tuple[Cell, ...] = ()
    checks: tuple[Check, ...] = ()
    horizons: frozenset[str] = frozenset()
    """names of the methods whose steps of search a horizon says"""

    @property
    def digest(self) -> str:
        """What the plan would make, as one digest: equal for equal keys under equal names."""
        return digest({name: step.key for name, step in self.steps.items()})

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about files, folders and labels that its datasets leave out or renumber."""
        return tuple(dict.fromkeys(warning for source in self.sources.values() for warning in source.warnings))

    def input_keys(self, step: Step) -> dict[str, str]:
        """Role -> key of the input."""
        return {role: self.steps[name].key for role, name in step.inputs.items()}

    def of(self, kind: str | type[StepResult]) -> list[Step]:
        """Return the steps of an operation, or those with a class of result, in order."""
        return [step for step in self.steps.values() if step.operation == kind or step.gives(kind)]


@dataclass(frozen=True)
class Check:
    """One sanity check of one method, or of the best of several, within a budget and a seed."""

    subject: str
    """a method's name, or `best`"""
    check: str
    budget: str
    seed: int
    candidates: Mapping[str, str]
    """what the step calls the methods -> their names"""
    step: str | None
    """of operation `sanity`, or `evaluate` where a control of the spec is the same network"""
    left_out: str = ""
    """why there is no step"""
