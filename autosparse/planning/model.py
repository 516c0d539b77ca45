"""The plan and its parts: steps, budgets, cells of the comparison, checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from autosparse.datasets import Source
from autosparse.models.facts import Network
from autosparse.models.trained import Weights
from autosparse.spec import Amount, RelativeAmount, Spec
from autosparse.steps import operations
from autosparse.steps._base import StepResult
from autosparse.steps.init import START
from autosparse.store import digest

PURPOSES = {
    "source": "source of labels",
    "ticket": "ticket",
    "scorer": "scorer",
    "network": "this network",
    "comparison": "comparison",
    "emission": "export",
    "sanity": "sanity checks",
}
"""Purpose of a step -> its title for display."""


@dataclass(frozen=True)
class Step:
    """One operation with all its options and inputs.

    Attributes:
        name: Name in the plan, such as `mask/snip/0.9/seed0`.
        operation: Name of the operation, such as `mask`.
        version: Version of the operation, part of the key.
        options: All options, with defaults written out.
        inputs: Role -> name of the step that produces the input.
        key: Cache key, 64 hex digits.
        purpose: Group for display, one of `PURPOSES`.
        access: Needs outside the key, such as file paths and downloads.
        origins: Option -> path of the spec that it comes from, for options whose name is not that path; an option of a
            section is written `section.option`.
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
        """The network of an `init` step."""
        about = self.options
        reach = self.access.get("model", about["model"])
        structure = {name: value for name, value in about["model"].items() if name != START}
        return Network(structure, reach["name"], reach["options"], tuple(about["shape"]), about["classes"])

    def gives(self, result: object) -> bool:
        """Return whether a class of results reads the step's artifact.

        Args:
            result: Class of results, such as `MaskResult`.

        Returns:
            True if the step's operation writes it.
        """
        return operations[self.operation].facts.get("result") is result

    def spec_path(self, option: Sequence[str]) -> str:
        """Return the path of the spec that an option comes from.

        Args:
            option: Path in `options`, such as `("method", "criterion", "name")`.

        Returns:
            Dotted path of the spec.
        """
        ends = range(len(option), 0, -1)
        end = next((end for end in ends if ".".join(option[:end]) in self.origins), 1)
        rest = [part for part in option[end:] if part != "options"]
        if rest[-1:] == ["name"]:
            rest.pop()
        return ".".join([self.origins.get(".".join(option[:end]), option[0]), *rest])


@dataclass(frozen=True)
class PlannedBudget:
    """A budget with its name: a sparsity if known, else an amount, relative until the images exist."""

    label: str
    sparsity: float | None
    amount: Amount | RelativeAmount | None = None

    @property
    def name(self) -> str:
        return budget_in_names(self.label)

    @property
    def is_latency(self) -> bool:
        return self.amount is not None and self.amount.currency == "latency"

    @property
    def options(self) -> dict[str, Any]:
        """The budget as a step's options: the sparsity where it is known, so that equal masks have equal keys."""
        if self.amount is None:
            return {"sparsity": self.sparsity}
        return {"budget": self.amount.keyed() if self.is_latency else self.amount.written()}


def budget_in_names(label: str) -> str:
    """Return a budget's part in the names of steps and folders.

    It has no `%`, which begins an escape in URLs, and a variable in Windows, crontab and Make.

    Args:
        label: Name of the budget in reports, such as `120k parameters` or `30% macs`.

    Returns:
        The part, such as `120k-parameters` or `30-percent-macs`.
    """
    return label.replace("%", "-percent").replace(",", "").replace(" ", "-")


def strictest(budgets: Sequence[PlannedBudget]) -> PlannedBudget:
    """Return the strictest budget.

    Args:
        budgets: Budgets of a plan.

    Returns:
        The budget that leaves the fewest weights.
    """
    # Multiply-adds and latencies have no sparsity before masks exist: they count only without other budgets.
    shares = [budget for budget in budgets if budget.sparsity is not None]
    if shares:
        return max(shares, key=lambda budget: budget.sparsity or 0.0)
    return min(budgets, key=lambda budget: _order(budget.amount))


def _order(amount: Amount | RelativeAmount | None) -> tuple[bool, bool, float]:
    # Multiply-adds before latencies, relative ones before numbers: no unit converts one to the other.
    if amount is None:
        return False, False, 0.0
    size = float(amount.share) if isinstance(amount, RelativeAmount) else float(amount.amount)
    return amount.currency == "latency", isinstance(amount, Amount), size


@dataclass(frozen=True)
class PlannedStart:
    """Trained weights that a network starts from, and notes on their differences from the file."""

    weights: Weights
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        content = self.weights.sha256
        return f"{self.weights.name}, {f'sha256 {content[:12]}…' if content else 'missing'}"


@dataclass(frozen=True)
class Candidate:
    """Training of a method with some values of the recipe's fields, and the names of its steps."""

    values: Mapping[str, Any]
    train: str
    evaluate: str


@dataclass(frozen=True)
class Cell:
    """One network of the comparison: a method within a budget and a seed, and the names of its steps."""

    method: str
    budget: str
    """the budget's name: `0.99`, `120k parameters`, `30% macs`"""
    sparsity: float | None
    """None before masks exist, for a budget in multiply-adds"""
    seed: int
    role: str
    """`method`, `control`, `compared`, `dense`, or `reference` for a dense network trained for another length"""
    train: str
    evaluate: str
    mask: str | None
    recipe: str = ""
    """the step that chooses the training's recipe, if methods choose theirs"""
    candidates: tuple[Candidate, ...] = ()
    """at the first seed, the trainings that it chooses from"""


@dataclass(frozen=True)
class Plan:
    """Compiled spec: all steps in an order in which they can run, and the comparison that they make.

    Attributes:
        name: Name of the plan.
        spec: Resolved spec.
        steps: Step name -> step.
        sources: Step name -> data source of the step.
        cells: Networks of the comparison.
        references: Dense networks of other lengths, which are no part of the comparison.
        checks: Sanity checks.
        horizons: Names of the methods whose mask-training steps come from a horizon.
        starts: Name of an `init` step -> trained weights of its network, if any.
        remarks: Warnings about these weights.
    """

    name: str
    spec: Spec
    steps: Mapping[str, Step]
    sources: Mapping[str, Source] = field(repr=False)
    cells: tuple[Cell, ...] = ()
    references: tuple[Cell, ...] = ()
    checks: tuple[Check, ...] = ()
    horizons: frozenset[str] = frozenset()
    starts: Mapping[str, PlannedStart] = field(default_factory=dict, repr=False)
    remarks: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The digest of the plan's artifacts: equal for equal keys under equal names."""
        return digest({name: step.key for name, step in self.steps.items()})

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about trained starts, and about what its datasets leave out or renumber."""
        ignored = (warning for source in self.sources.values() for warning in source.warnings)
        return tuple(dict.fromkeys([*self.remarks, *ignored]))

    def input_keys(self, step: Step) -> dict[str, str]:
        """Return the keys of a step's inputs.

        Args:
            step: Step of the plan.

        Returns:
            Role -> key of the input.
        """
        return {role: self.steps[name].key for role, name in step.inputs.items()}

    def of(self, kind: str | type[StepResult]) -> list[Step]:
        """Return the steps of one kind.

        Args:
            kind: Name of an operation, or a class of results.

        Returns:
            The steps in order.
        """
        return [step for step in self.steps.values() if step.operation == kind or step.gives(kind)]


@dataclass(frozen=True)
class Check:
    """One sanity check of one method, or of the best of several, within a budget and a seed."""

    subject: str
    """the method's name, or `best`"""
    check: str
    budget: str
    seed: int
    candidates: Mapping[str, str]
    """name in the step's options -> method's name"""
    step: str | None
    """a step of operation `sanity`, or `evaluate` if a control of the spec is the same network"""
    left_out: str = ""
    """the reason why no step exists"""
