"""The runs of a directory beside each other: what each reached, and which is the best of its kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autosparse.report.cells import columns_of, mean_of, rows_of
from autosparse.report.folder import Run


@dataclass(frozen=True)
class Reached:
    """A run's own method: budget -> mean test accuracy in %, and the budgets at which no other run has more.

    `statuses` name the seeds without a result, by budget: `1 diverged`, or `diverged` where that is all of them.
    """

    run: Run
    accuracy: dict[str, float]
    best: tuple[str, ...]
    statuses: dict[str, str]


def history(runs: Sequence[Run]) -> list[Reached]:
    """What each run reached; those of one network on one dataset are compared, where they are several."""
    reached = [_accuracy(run) for run in runs]
    kinds = [_kind(run) for run in runs]
    found = []
    for run, kind, own in zip(runs, kinds, reached, strict=True):
        others = [there for n, there in enumerate(reached) if runs[n] is not run and kinds[n] == kind]
        rivals = {label: [there[label] for there in others if label in there] for label in own}
        best = tuple(label for label, value in own.items() if rivals[label] and value >= max(rivals[label]))
        found.append(Reached(run, own, best, _statuses(run)))
    return found


def _accuracy(run: Run) -> dict[str, float]:
    return {label: mean_of(values) for label, values, _ in _cells(run) if values}


def _statuses(run: Run) -> dict[str, str]:
    return {label: status for label, _, status in _cells(run) if status}


def _cells(run: Run) -> list[tuple[str, Sequence[float], str]]:
    # Of the run's own method: budget, accuracies, and the status of the seeds without one.
    if run.report is None:
        return []
    row = next((row for row in rows_of(run.report) if row.name == run.report.method), None)
    return [*zip(columns_of(run.report), row.cells, row.statuses, strict=True)] if row else []


def _kind(run: Run) -> Any:
    # What has to be the same for accuracies to be compared: the network and the images, with all of their options.
    try:
        spec = json.loads((run.folder / "resolved.json").read_text(encoding="utf-8"))
        return spec["model"], spec["dataset"]
    except (OSError, ValueError, KeyError, TypeError):
        return run.report and (run.report.model, run.report.dataset)
