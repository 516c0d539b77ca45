"""Finished part of a plan, the layers of its masks, its timeline, and its failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from autosparse.datasets import Source
from autosparse.plan.model import Cell, Plan, Step
from autosparse.report.cells import missing_by_cell
from autosparse.report.schema import Failure, LayerShare, Made, Missing, Profile
from autosparse.steps._base import StepResult
from autosparse.steps.mask import MaskResult
from autosparse.steps.train import EvaluateResult
from autosparse.store import Artifact, Store
from autosparse.text import listed


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
        return self.plan.sources[self.plan.steps[self.plan.cells[0].evaluate].inputs["data"]]


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


_NAMED = 3  # failed steps listed for one reason


def find_missing(finished: Finished, failures: Iterable[Failure]) -> list[Missing]:
    """Return the cells of a plan without a result, in the plan's order."""
    causes = {name: failure for failure in failures for name in (failure.step, *failure.skipped)}
    lost = [cell for cell in finished.plan.cells if not finished.has(cell.evaluate)]
    return [
        Missing(cell.method, cell.budget, cell.sparsity, cell.seed, cell.role == "control", cause.status, cause.step)
        for cell, cause in ((cell, causes[cell.evaluate]) for cell in lost)
    ]


def describe_failures(failures: Iterable[Failure], missing: Sequence[Missing], results: Sequence[Any]) -> Iterator[str]:
    """Yield a sentence for every reason of failures, with its steps, and for every mean that lacks a seed.

    `results` are those of methods and controls.
    """
    reasons: dict[str, list[Failure]] = {}
    for failure in failures:
        reasons.setdefault(failure.message.removeprefix(f"step `{failure.step}` failed: "), []).append(failure)
    for reason, alike in reasons.items():
        skipped = sum(len(failure.skipped) for failure in alike)
        after = f"; {skipped} dependent step{'s' * (skipped > 1)} skipped" if skipped else ""
        names = listed([f"`{failure.step}`" for failure in alike], _NAMED)
        yield f"step{'s' * (len(alike) > 1)} {names} failed: {reason}{after}"
    seeds = Counter((result.method, result.budget) for result in results)
    for (method, budget), cells in missing_by_cell(missing).items():
        if left := seeds[method, budget]:
            causes = ", ".join(f"seed {one.seed} {one.status}" for one in cells)
            yield f"{method} at {budget} is the mean over {left} of {left + len(cells)} seeds: {causes}"


def describe_notes(finished: Finished) -> list[str]:
    """Return the notes of all masks of the comparison, and the ignored items of the dataset."""
    methods: dict[str, dict[str, None]] = {}  # note -> the methods with it, in order
    for cell in finished.cells:
        if cell.mask and finished.has(cell.mask):
            for note in MaskResult.read(finished.open(cell.mask)).notes:
                methods.setdefault(note, {})[cell.method] = None
    return [*finished.plan.warnings, *(f"{', '.join(names)}: {note}" for note, names in methods.items())]
