"""Comparison of runs and of a study's levels: intervals, paired differences, significance."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from typing import Any

from autosparse.report.cells import TRAINED, by_cell, counted, missing_by_cell, statuses_by_cell
from autosparse.report.schema import Report
from autosparse.report.significance import CONFIDENCE, Difference, Interval, difference, holm, mean_interval


@dataclass(frozen=True)
class Level:
    """Value of a factor; `accuracies` are in percent, budget -> seed -> accuracy after the last epoch.

    `base` marks the value in the spec. `objective` is the value of the best trial, and `measured` its metric; None
    without tuning. `statuses` are those of seeds without a sound network: budget -> seed -> `diverged`, `failed`,
    `collapsed`, `at chance`. `images` is the number of images behind an accuracy.
    """

    factor: str
    value: Any
    base: bool
    accuracies: Mapping[str, Mapping[int, float]]
    objective: float | None = None
    measured: str = ""
    statuses: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    images: int = 0


def interval_of(level: Level, budget: str) -> Interval | None:
    """Return the mean accuracy of a level, with its interval; None without any network."""
    known = level.accuracies.get(budget, {})
    return mean_interval([*known.values()], level.images) if known else None


def gain_over(level: Level, base: Level, budget: str) -> Difference | None:
    """Return the level minus the base, paired by seed over trained networks; None where they share no such seed."""
    return difference(_trained(level, budget), _trained(base, budget), level.images)


def _trained(level: Level, budget: str) -> dict[int, float]:
    statuses = level.statuses.get(budget, {})
    return {seed: value for seed, value in level.accuracies.get(budget, {}).items() if seed not in statuses}


def predicted(levels: Sequence[Level], budget: str) -> tuple[float, int] | None:
    """Return Spearman's rank correlation of objective and mean accuracy, with the number of distinct objectives.

    Only of levels with a trained network. None for fewer than three objectives, for equal accuracies, and for
    objectives of different metrics.
    """
    tuned = [level for level in levels if level.objective is not None and _trained(level, budget)]
    means: dict[float | None, float] = {}
    for level in tuned:
        means.setdefault(level.objective, statistics.fmean(_trained(level, budget).values()))
    if len(means) < 3 or len({*means.values()}) < 2 or len({level.measured for level in tuned}) > 1:
        return None
    from scipy.stats import spearmanr

    return float(spearmanr([*means], [*means.values()]).statistic), len(means)


def study_json(levels: Sequence[Level], split: str) -> dict[str, Any]:
    """Return the study as printed by `study --json`, with accuracies of this split."""
    bases = {level.factor: level for level in levels if level.base}
    rows = []
    for level in levels:
        budgets = {}
        for budget in dict.fromkeys([*level.accuracies, *level.statuses]):
            less = None if level.base else gain_over(level, bases[level.factor], budget)
            known, mean = level.accuracies.get(budget, {}), interval_of(level, budget)
            budgets[budget] = {
                "accuracies": {str(seed): value for seed, value in known.items()},
                **(asdict(mean) if mean else dict.fromkeys(("mean", "low", "high"))),
                "difference": less and asdict(less),
                "statuses": {str(seed): status for seed, status in level.statuses.get(budget, {}).items()},
            }
        about = {"factor": level.factor, "value": level.value, "base": level.base}
        rows.append({**about, "budgets": budgets, "objective": level.objective})
    return {"schema_version": 1, "split": split, "confidence": CONFIDENCE, "levels": rows}


ABSENT = "–"


@dataclass(frozen=True)
class Setting:
    """Value of the specs, by its path, that differs between them; `–` where a spec has none."""

    path: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Compared:
    """Method within one budget: its accuracy in every run, or None, and its gain over the first run."""

    method: str
    budget: str
    accuracies: tuple[Interval | None, ...]
    gains: tuple[Difference | None, ...]
    """None for the first run, and where it shares no seed with trained networks with this one; `p` is adjusted by
    Holm's correction over all comparisons"""
    statuses: tuple[str, ...] = ()
    """seeds without a sound network in every run: `1 diverged`, or `diverged` for all of them"""


def compare_settings(specs: Sequence[Mapping[str, Any]]) -> list[Setting]:
    """Return the values that differ, in the order of the specs; `specs` are resolved.

    Of choices in a list, such as the methods to compare, return the names; of a choice in all specs, its differences.
    """
    flat = [dict(leaves(spec)) for spec in specs]
    paths = dict.fromkeys(path for one in flat for path in one)
    for one in flat:
        for path, names in one.items():
            if isinstance(names, _Names):
                alone = (name for name in names if any(name not in other.get(path, ()) for other in flat))
                prefixes = tuple(f"{path}[{name}]." for name in alone)
                paths = {known: None for known in paths if not known.startswith(prefixes)}
    rows = [Setting(path, tuple(one.get(path, ABSENT) for one in flat)) for path in paths]
    return [row for row in rows if any(value != row.values[0] for value in row.values)]


def alone(reports: Sequence[Report]) -> dict[str, int]:
    """Return the budgets that only one of the runs has, and the position of that run."""
    owners: dict[str, list[int]] = {}
    for position, report in enumerate(reports):
        cells = [*by_cell([*report.results, *report.controls]), *missing_by_cell(report.missing)]
        for budget in dict.fromkeys(budget for method, budget in cells if method != "dense"):
            owners.setdefault(budget, []).append(position)
    return {budget: runs[0] for budget, runs in owners.items() if len(runs) == 1}


def compare_results(reports: Sequence[Report]) -> list[Compared]:
    """Return every method of any of the runs at each budget that several runs have, controls last."""
    networks = [[*report.results, *report.controls] for report in reports]
    accuracies, states = [*map(by_cell, networks)], [*map(statuses_by_cell, networks)]
    trained = [by_cell(one for one in each if one.status == TRAINED) for each in networks]
    lost = [missing_by_cell(report.missing) for report in reports]
    images = [report.test_images or 0 for report in reports]
    left_out = alone(reports)
    cells = [cell for cell in dict.fromkeys(chain(*accuracies, *lost)) if cell[0] == "dense" or cell[1] not in left_out]
    gains = {
        cell: tuple(
            difference(one.get(cell, {}), trained[0].get(cell, {}), min(images[0], number))
            for one, number in zip(trained[1:], images[1:], strict=True)
        )
        for cell in cells
    }
    known = [gain for row in gains.values() for gain in row if gain is not None]
    adjusted = dict(zip(map(id, known), holm([gain.p for gain in known]), strict=True))
    return [
        Compared(
            method,
            budget,
            tuple(
                mean_interval([*one[method, budget].values()], number) if (method, budget) in one else None
                for one, number in zip(accuracies, images, strict=True)
            ),
            (None, *(gain and replace(gain, p=adjusted[id(gain)]) for gain in gains[method, budget])),
            tuple(
                counted([*made.get((method, budget), []), *(m.status for m in gone.get((method, budget), []))])
                for made, gone in zip(states, lost, strict=True)
            ),
        )
        for method, budget in cells
    ]


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a spec by their paths; of choices in a list their names, then the options of each."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list) and any(isinstance(one, Mapping) and "name" in one for one in value):
        choices = {one["name"] if isinstance(one, Mapping) else str(one): one for one in value}
        yield path, _Names(choices)
        for name, one in choices.items():
            if isinstance(one, Mapping):
                yield from leaves({key: inner for key, inner in one.items() if key != "name"}, f"{path}[{name}]")
    else:
        yield path, value


class _Names(list[str]):
    """Names of choices, whose options are listed separately."""
