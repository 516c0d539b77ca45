"""Comparison of runs and of a study's levels: intervals, paired differences, significance."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate, chain
from typing import Any

from autosparse.report.cells import by_cell, counted, missing_by_cell, statuses_by_cell
from autosparse.report.schema import Report

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Level:
    """Value of a factor; `accuracies` are in percent, budget -> seed -> accuracy after the last epoch.

    `base` marks the value in the spec. `objective` is the value of the best trial, and `measured` its metric; None
    without tuning. `statuses` are those of seeds without a sound network: budget -> seed -> `diverged`, `failed`,
    `collapsed`, `at chance`.
    """

    factor: str
    value: Any
    base: bool
    accuracies: Mapping[str, Mapping[int, float]]
    objective: float | None = None
    measured: str = ""
    statuses: Mapping[str, Mapping[int, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Interval:
    """Mean and half width of its 95 % confidence interval, by Student's t; None for one value."""

    mean: float
    half: float | None

    def __str__(self) -> str:
        return f"{self.mean:.1f}" if self.half is None else f"{self.mean:.1f} ± {self.half:.1f}"


def interval(values: Sequence[float]) -> Interval:
    """Return the interval of independent values."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Interval(mean, None)
    from scipy.stats import t

    quantile = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    return Interval(mean, quantile * statistics.stdev(values) / math.sqrt(len(values)))


def paired(accuracies: Mapping[int, float], others: Mapping[int, float]) -> list[float]:
    """Return the differences at every seed that both have."""
    return [value - others[seed] for seed, value in accuracies.items() if seed in others]


def difference(level: Level, base: Level, budget: str) -> Interval | None:
    """Return the level minus the base, paired by seed; None where they share no seed at this budget."""
    pairs = paired(level.accuracies.get(budget, {}), base.accuracies.get(budget, {}))
    return interval(pairs) if pairs else None


def predicted(levels: Sequence[Level], budget: str) -> tuple[float, int] | None:
    """Return Spearman's rank correlation of objective and mean accuracy, with the number of distinct objectives.

    None for fewer than three objectives, for equal accuracies, and for objectives of different metrics.
    """
    tuned = [level for level in levels if level.objective is not None and level.accuracies.get(budget)]
    means: dict[float | None, float] = {}
    for level in tuned:
        means.setdefault(level.objective, statistics.fmean(level.accuracies[budget].values()))
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
            less = None if level.base else difference(level, bases[level.factor], budget)
            known = level.accuracies.get(budget, {})
            budgets[budget] = {
                "accuracies": {str(seed): value for seed, value in known.items()},
                **(asdict(interval([*known.values()])) if known else {"mean": None, "half": None}),
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
class Gain:
    """Difference of a run's test accuracy from the first run's, paired by seed; `p` is that of the paired t test.

    Adjusted by Holm's correction over all comparisons; None for fewer than two seeds, and for equal differences.
    """

    difference: Interval
    seeds: int
    p: float | None

    @property
    def is_significant(self) -> bool:
        return self.p is not None and self.p < 1 - CONFIDENCE


@dataclass(frozen=True)
class Compared:
    """Method within one budget: its accuracy in every run, or None, and its gain over the first run."""

    method: str
    budget: str
    accuracies: tuple[Interval | None, ...]
    gains: tuple[Gain | None, ...]
    """None for the first run, and where the first run or this one lacks it, or they share no seed"""
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


def compare_results(reports: Sequence[Report]) -> list[Compared]:
    """Return every method and budget of any of the runs, controls last."""
    accuracies = [by_cell([*report.results, *report.controls]) for report in reports]
    lost = [missing_by_cell(report.missing) for report in reports]
    states = [statuses_by_cell([*report.results, *report.controls]) for report in reports]
    cells = dict.fromkeys([*chain(*accuracies), *chain(*lost)])
    gains = {cell: tuple(_gain(one.get(cell), accuracies[0].get(cell)) for one in accuracies[1:]) for cell in cells}
    known = [gain for row in gains.values() for gain in row if gain is not None and gain.p is not None]
    adjusted = dict(zip(map(id, known), holm([gain.p for gain in known if gain.p is not None]), strict=True))
    return [
        Compared(
            method,
            budget,
            tuple(interval([*one[method, budget].values()]) if (method, budget) in one else None for one in accuracies),
            (None, *(g and Gain(g.difference, g.seeds, adjusted.get(id(g))) for g in gains[method, budget])),
            tuple(
                counted([*trained.get((method, budget), []), *(m.status for m in gone.get((method, budget), []))])
                for trained, gone in zip(states, lost, strict=True)
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


def _gain(accuracies: Mapping[int, float] | None, first: Mapping[int, float] | None) -> Gain | None:
    pairs = paired(accuracies or {}, first or {})
    if not pairs:
        return None
    p = None
    if len(pairs) > 1 and len(set(pairs)) > 1:
        from scipy.stats import ttest_1samp

        p = float(ttest_1samp(pairs, 0.0).pvalue)
    return Gain(interval(pairs), len(pairs), p if p is None or math.isfinite(p) else None)


def holm(values: Sequence[float]) -> list[float]:
    """Return p values of m tests by Holm (1979): the smallest times m, the next times m - 1, never decreasing."""
    order = sorted(range(len(values)), key=values.__getitem__)
    scaled = (min(1.0, values[index] * (len(values) - rank)) for rank, index in enumerate(order))
    adjusted = dict(zip(order, accumulate(scaled, max), strict=True))
    return [adjusted[index] for index in range(len(values))]
