"""The runs of a directory beside each other: what each reached, and which is the best of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autosparse.report.cells import columns_of, mean_of, rows_of
from autosparse.report.folder import Run


@dataclass(frozen=True)
class Reached:
    """A run's own method: budget -> mean test accuracy in %, and the budgets at which no other run has more."""

    run: Run
    accuracy: dict[str, float]
    best: tuple[str, ...]


def history(runs: Sequence[Run]) -> list[Reached]:
    """What each run reached; those of one network on one dataset are compared, where they are several."""
    reached = [_accuracy(run) for run in runs]
    found = []
    for run, own in zip(runs, reached, strict=True):
        others = [there for other, there in zip(runs, reached, strict=True) if other is not run and _alike(run, other)]
        rivals = {label: [there[label] for there in others if label in there] for label in own}
        best = tuple(label for label, value in own.items() if rivals[label] and value >= max(rivals[label]))
        found.append(Reached(run, own, best))
    return found


def _accuracy(run: Run) -> dict[str, float]:
    if run.report is None:
        return {}
    own = next((row.cells for row in rows_of(run.report) if row.name == run.report.method), [])
    return {label: mean_of(values) for label, values in zip(columns_of(run.report), own, strict=False) if values}


def _alike(one: Run, other: Run) -> bool:
    return bool(
        one.report
        and other.report
        and (one.report.model, one.report.dataset) == (other.report.model, other.report.dataset)
    )
