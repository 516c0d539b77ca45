"""A study as a table: a row for every value of a factor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autosparse.console.format import plain, results
from autosparse.console.report import show_table
from autosparse.report import Interval, Level, counted, difference, foretold, interval


def show_study(name: str, method: str, levels: Sequence[Level], split: str) -> None:
    """Accuracy of every level, and beside it how far it is from what the spec has."""
    console = results()
    budgets = list(dict.fromkeys(budget for level in levels for budget in (*level.accuracies, *level.statuses)))
    seeds = max((len(found) for level in levels for found in level.accuracies.values()), default=0)
    bases = {level.factor: level for level in levels if level.base}
    spread = f"mean ± half of the 95 % interval, {seeds} seeds" if seeds > 1 else "one seed: no interval"
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
            less = [difference(level, bases[level.factor], at) for at in budgets]
            rows.append(["", "", *("" if each is None else f"  {_signed(each)}" for each in less)])
    show_table(["factor", "value", *(f"sparsity {at}" if _is_number(at) else at for at in budgets)], rows)
    if any(not level.base for level in levels):
        console.print(plain("below each: less what the spec has, paired by seed", "dim"))
    for at in budgets if split == "validation" else ():
        if found_at := foretold(levels, at):
            correlation, number = found_at
            measured = next(level.measured for level in levels if level.objective is not None)
            told = f"tuning's objective ({measured}) foretold {split} accuracy at {at} of {number} scorers"
            console.print(plain(f"{told} with a rank correlation of {correlation:.2f}"))


def in_words(value: Any) -> str:
    """A value in few words: the name of a choice and what is said beside it."""
    if isinstance(value, dict):
        rest = ", ".join(f"{key} {in_words(inner)}" for key, inner in value.items() if key != "name")
        name = str(value.get("name", ""))
        return f"{name}: {rest}" if name and rest else name or rest
    if isinstance(value, list | tuple):
        return ", ".join(map(in_words, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cell(level: Level, budget: str) -> str:
    known, lost = level.accuracies.get(budget, {}), [*level.statuses.get(budget, {}).values()]
    parts = [str(interval([*known.values()]))] if known else []
    parts += [counted(lost, alone=not known)] if lost else []
    return ", ".join(parts) or "–"


def _signed(less: Interval) -> str:
    return f"{'+' if less.mean >= 0 else ''}{less}"


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()
