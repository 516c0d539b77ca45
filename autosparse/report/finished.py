"""Finished part of a plan, the layers of its masks, its timeline, and its failures."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from autosparse.datasets import Source
from autosparse.planning.model import Cell, Plan, Step
from autosparse.report.schema import Failure, LayerShare, Made, Missing, Profile
from autosparse.steps._base import StepResult
from autosparse.steps.data import DataResult
from autosparse.steps.train import EvaluateResult
from autosparse.store import Artifact, Store


@dataclass(frozen=True)
class ImageSet:
    """Images that accuracies are counted on: their number, and the accuracy of the best constant guess in percent."""

    images: int
    chance: float


@dataclass(frozen=True)
class Finished:
    """Plan, its store, and the names of the steps without an artifact: failed or skipped ones."""

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
        """Return whether the plan has this step and the step has an artifact."""
        return name in self.plan.steps and name not in self.absent

    def open(self, name: str) -> Artifact:
        """Open a step's artifact. Raises DamagedArtifact for one that cannot be trusted."""
        step = self.plan.steps[name]
        return self.store.open(step.operation, step.key)

    def seconds(self, name: str) -> float:
        """Return the seconds that a step took, in this run or an earlier one."""
        seconds: float = self.open(name).descriptor.get("seconds", 0.0)
        return seconds

    def steps(self) -> Iterator[Step]:
        """Yield the steps that have an artifact, in the plan's order."""
        return (step for step in self.plan.steps.values() if step.name not in self.absent)

    def with_result(self, result: type[StepResult]) -> list[Step]:
        """Return the steps with a class of result that have an artifact."""
        return [step for step in self.steps() if step.gives(result)]

    @property
    def cells(self) -> list[Cell]:
        """Cells of the comparison whose network is trained and evaluated."""
        return [cell for cell in self.plan.cells if self.has(cell.evaluate)]

    @property
    def source(self) -> Source:
        """Dataset with the test images of the accuracies."""
        return self.plan.sources[self._data]

    @cached_property
    def test(self) -> ImageSet:
        """Test images. Chance is the share of their commonest class; without labels in the store, equal shares."""
        return self._image_set("test", self.source.test_images)

    @cached_property
    def validation(self) -> ImageSet:
        """Validation images, as `test`."""
        return self._image_set("validation", self.source.validation_images)

    @property
    def _data(self) -> str:
        return self.plan.steps[self.plan.cells[0].evaluate].inputs["data"]

    def _image_set(self, split: str, planned: int) -> ImageSet:
        step = self.plan.steps[self._data]
        known = self.store.has(step.operation, step.key)
        if known and (counts := DataResult.read(self.open(step.name)).class_counts(split)):
            return ImageSet(sum(counts), 100 * max(counts) / sum(counts))
        return ImageSet(planned, 100 / max(1, self.source.classes))


LEAST = 1e-3
"""share of a layer below which it is drawn as empty"""


def describe_profiles(finished: Finished) -> list[Profile]:
    """Return the profiles of every method and budget; controls keep as many weights per layer as their method."""
    profiles = []
    for cell in finished.cells:
        if cell.role in ("method", "compared") and cell.seed == finished.plan.spec.seeds[0]:
            layers = EvaluateResult.read(finished.open(cell.evaluate)).layers
            shares = [LayerShare(one.name, one.size, one.kept, one.effective) for one in layers]
            profiles.append(Profile(cell.method, cell.budget, cell.seed, shares))
    return profiles


def describe_timeline(finished: Finished) -> list[Made]:
    """Return the steps in order of their start; skip artifacts without a time."""
    timed = []
    for step in finished.steps():
        about = finished.open(step.name).descriptor
        try:
            end = datetime.fromisoformat(about["created"]).timestamp()
            timed.append((end - about["seconds"], about["seconds"], step))
        except (KeyError, TypeError, ValueError):
            continue
    timed.sort(key=lambda item: (item[0], item[2].name))
    made, busy, until = [], 0.0, 0.0  # `busy`: seconds with a running step, up to `until`
    for begin, seconds, step in timed:
        shown = busy - max(0.0, until - begin)
        made.append(Made(step.name, step.purpose, round(shown, 3), round(seconds, 3)))
        busy += max(0.0, begin + seconds - max(begin, until))
        until = max(until, begin + seconds)
    return made


def find_missing(finished: Finished, failures: Iterable[Failure]) -> list[Missing]:
    """Return the cells of a plan without a result, in the plan's order."""
    causes = {name: failure for failure in failures for name in (failure.step, *failure.skipped)}
    lost = [cell for cell in finished.plan.cells if not finished.has(cell.evaluate)]
    return [
        Missing(cell.method, cell.budget, cell.sparsity, cell.seed, cell.role == "control", cause.status, cause.step)
        for cell, cause in ((cell, causes[cell.evaluate]) for cell in lost)
    ]
