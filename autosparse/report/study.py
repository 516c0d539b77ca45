"""What one factor after another does to a method's accuracy, with confidence intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Level:
    """One value of a factor. `accuracies` are in percent, budget -> seed -> accuracy after the last epoch.

    `base` says that it is what the spec has. `objective` is what the best trial came to, and `measured` by what; None
    where nothing was tuned. `statuses` are those of seeds without an accuracy: budget -> seed -> `diverged`, `failed`.
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
    """A mean and the half width of its 95 % confidence interval, by Student's t; None for one value."""

    mean: float
    half: float | None

    def __str__(self) -> str:
        return f"{self.mean:.1f}" if self.half is None else f"{self.mean:.1f} ± {self.half:.1f}"


def interval(values: Sequence[float]) -> Interval:
    """The interval of independent values."""
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
    """The level less the base, paired by seed; None where they share no seed at this budget."""
    pairs = paired(level.accuracies.get(budget, {}), base.accuracies.get(budget, {}))
    return interval(pairs) if pairs else None


def foretold(levels: Sequence[Level], budget: str) -> tuple[float, int] | None:
    """Spearman's rank correlation of objective and mean accuracy, over how many different objectives; or None.

    None of fewer than three, of equal accuracies, and where objectives were measured by different things.
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
    """The study as `study --json` prints it, accuracies being of this split."""
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
        rows.append(
            {
                "factor": level.factor,
                "value": level.value,
                "base": level.base,
                "budgets": budgets,
                "objective": level.objective,
            }
        )
    return {"schema_version": 1, "split": split, "confidence": CONFIDENCE, "levels": rows}
