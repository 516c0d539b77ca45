"""The finished part of a plan: the steps whose artifacts are in the store."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from autosparse.plan import Cell, Plan, Step
from autosparse.store import Artifact, Store


@dataclass(frozen=True)
class Finished:
    """A plan, its store, and the names of the steps without an artifact: those that failed or were skipped."""

    plan: Plan
    store: Store
    absent: frozenset[str] = frozenset()

    @classmethod
    def of(cls, plan: Plan, store: Store, unmade: Collection[str] = ()) -> Finished:
        """Look in the store for artifacts of `unmade` steps: an earlier one stays when a forced step fails."""
        steps = [plan.steps[name] for name in unmade]
        present = store.present([(step.operation, step.key) for step in steps]) if steps else set()
        return cls(plan, store, frozenset(step.name for step in steps if step.key not in present))

    def has(self, name: str) -> bool:
        """Return whether the plan has this step, and the step an artifact."""
        return name in self.plan.steps and name not in self.absent

    def open(self, name: str) -> Artifact:
        """Open a step's artifact. Raises DamagedArtifact for one that cannot be trusted."""
        step = self.plan.steps[name]
        return self.store.open(step.operation, step.key)

    def steps(self) -> Iterator[Step]:
        """Yield the steps that have an artifact, in the plan's order."""
        return (step for step in self.plan.steps.values() if step.name not in self.absent)

    def of_operation(self, operation: str) -> list[Step]:
        """Return the steps of one operation that have an artifact."""
        return [step for step in self.steps() if step.operation == operation]

    @property
    def cells(self) -> list[Cell]:
        """Cells of the comparison whose network is trained and evaluated."""
        return [cell for cell in self.plan.cells if self.has(cell.evaluate)]

    @property
    def test_images(self) -> int:
        """Number of test images that accuracies are counted on."""
        return self.plan.sources[self._data].test_images

    @property
    def classes(self) -> int:
        """Number of classes of the dataset."""
        return self.plan.sources[self._data].classes

    @property
    def _data(self) -> str:
        return self.plan.steps[self.plan.cells[0].evaluate].inputs["data"]
