"""Comparisons of runs and studies on a terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from autosparse.console.format import FIXED, plain, results, show_table
from autosparse.planning.model import PURPOSES
from autosparse.report.cells import TRAINED, counted, joined
from autosparse.report.compare import Compared, Level, Setting, alone, gain_over, interval_of, predicted
from autosparse.report.schema import Report
from autosparse.report.significance import Difference, Interval
from autosparse.text import listed, plural, seconds, size


def show_compared(
    names: Sequence[str], settings: Sequence[Setting], rows: Sequence[Compared], reports: Sequence[Report]
) -> None:
    """Show the spec differences, then accuracies with gains over the first run, then costs."""
    console = results()
    console.print()
    if settings:
        console.print(plain("spec differences", "bold"))
        show_table(["setting", *names], [[row.path, *map(_value, row.values)] for row in settings])
    else:
        console.print(plain("the specs are identical", "bold"))
    console.print()
    console.print(plain("test accuracy in %, last epoch; mean and 95 % interval", "bold"))
    lines: list[list[str]] = []
    for row in rows:
        budget = "" if row.method == "dense" else row.budget
        lines.append([row.method, budget, *map(_accuracy, row.accuracies, row.statuses)])
        if any(row.gains):
            lines.append(["", "", *map(_gain, row.gains)])
    show_table(["method", "budget", *names], lines, optional=range(len(names) + 1, 3, -1), console=console)
    console.print(plain(f"below each: the difference from {names[0]}, paired by seed; {_significance(rows)}", "dim"))
    if left_out := [f"{budget} ({names[position]})" for budget, position in alone(reports).items()]:
        console.print(plain(f"left out, in one run only: {listed(left_out)}", "dim"))
    console.print()
    show_table(["", *names], _costs(reports))


def _value(value: Any) -> str:
    return in_words(value) if isinstance(value, str | dict | list) else json.dumps(value)


def _accuracy(accuracy: Interval | None, status: str) -> str:
    return joined("" if accuracy is None else _whole(accuracy), status) or "–"


def _gain(gain: Difference | None) -> str:
    if gain is None:
        return ""
    star = f"{FIXED}*" if gain.is_significant else ""
    return f"{FIXED * 2}{_whole(gain)}, p{FIXED}{gain.p:.2g}{star}"


def _significance(rows: Sequence[Compared]) -> str:
    tested = [gain for row in rows for gain in row.gains if gain is not None]
    if not tested:
        return "no method, budget and seed with trained networks in common"
    one = "one seed: seed variation not included; "
    alone = one if all(gain.seeds == 1 for gain in tested) else ""
    number = plural(len(tested), "comparison")
    return f"{alone}* is significant at 5 %, p with Holm's correction for {number}; intervals are not corrected"


def _costs(reports: Sequence[Report]) -> list[list[str]]:
    rows = [["compute cost", *(seconds(sum(report.cost.values())) for report in reports)]]
    for purpose, title in PURPOSES.items():
        if any(purpose in report.cost for report in reports):
            times = (seconds(report.cost[purpose]) if purpose in report.cost else "–" for report in reports)
            rows.append([f"  {title}", *times])
    kinds = dict.fromkeys((model.format, model.budget) for report in reports for model in report.emitted)
    for format, budget in kinds:
        matches = [[m for m in report.emitted if (m.format, m.budget) == (format, budget)] for report in reports]
        rows.append([f"{format} at {budget}", *(size(models[0].bytes) if models else "–" for models in matches)])
    return rows


def show_study(name: str, method: str, levels: Sequence[Level], split: str) -> None:
    """Show the accuracy of every level, and its difference from the spec's own level."""
    console = results()
    budgets = list(dict.fromkeys(budget for level in levels for budget in (*level.accuracies, *level.statuses)))
    seeds = max((len(by_seed) for level in levels for by_seed in level.accuracies.values()), default=0)
    bases = {level.factor: level for level in levels if level.base}
    images = f"{max((level.images for level in levels), default=0):,} images"
    over = f"{images} and {seeds} seeds" if seeds > 1 else f"{images}, one seed: seed variation not included"
    spread = f"mean and 95 % interval of {over}"
    console.print()
    console.print(plain(f"{name}: {method}, {split} accuracy in %, last epoch; {spread}", "bold"))
    rows: list[list[str]] = []
    for number, level in enumerate(levels):
        first = number == 0 or levels[number - 1].factor != level.factor
        cells = [_cell(level, at) for at in budgets]
        rows += [[""] * (2 + len(budgets))] if first and rows else []
        name_of = f"{in_words(level.value)}{' (spec)' if level.base else ''}"
        rows.append([level.factor if first else "", name_of, *cells])
        if not level.base:
            gains = [gain_over(level, bases[level.factor], at) for at in budgets]
            rows.append(["", "", *("" if each is None else f"{FIXED * 2}{_whole(each)}" for each in gains)])
    show_table(["factor", "value", *(f"sparsity {at}" if _is_number(at) else at for at in budgets)], rows)
    if any(not level.base for level in levels):
        console.print(plain("below each: the difference from the spec's value, paired by seed", "dim"))
    for at in budgets if split == "validation" else ():
        if prediction := predicted(levels, at):
            correlation, number = prediction
            measured = next(level.measured for level in levels if level.objective is not None)
            sentence = f"tuning's objective ({measured}) predicts {split} accuracy at {at} of {number} scorers"
            console.print(plain(f"{sentence} (Spearman's rank correlation {correlation:.2f})"))


def in_words(value: Any) -> str:
    """Return a short form of a value: the name of a choice and its options."""
    if isinstance(value, dict):
        rest = ", ".join(f"{key} {in_words(inner)}" for key, inner in value.items() if key != "name")
        name = str(value.get("name", ""))
        return f"{name}: {rest}" if name and rest else name or rest
    if isinstance(value, list | tuple):
        return ", ".join(map(in_words, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cell(level: Level, budget: str) -> str:
    known, states = level.accuracies.get(budget, {}), level.statuses.get(budget, {})
    mean = interval_of(level, budget)
    accuracy = _whole(mean) if mean else ""
    return joined(accuracy, counted([states.get(seed, TRAINED) for seed in {**known, **states}])) or "–"


def _whole(value: Interval | Difference) -> str:
    # Never broken in a cell.
    return str(value).replace(" ", FIXED)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()
