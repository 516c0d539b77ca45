"""Runs beside each other: what differed in their specs, and what in their results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from autosparse.console.format import plain, results
from autosparse.console.report import show_table
from autosparse.console.study import in_words
from autosparse.plan import PURPOSES
from autosparse.report import Compared, Gain, Interval, Report, Setting
from autosparse.text import seconds, size


def show_compared(
    names: Sequence[str], settings: Sequence[Setting], rows: Sequence[Compared], reports: Sequence[Report]
) -> None:
    """The specs' differences, then accuracies with their gains over the first run, then costs."""
    console = results()
    console.print()
    if settings:
        console.print(plain("what differs in the specs", "bold"))
        show_table(["setting", *names], [[row.path, *map(_value, row.values)] for row in settings])
    else:
        console.print(plain("the specs say the same", "bold"))
    console.print()
    console.print(plain("test accuracy in %, last epoch; mean ± half of the 95 % interval", "bold"))
    told: list[list[str]] = []
    for row in rows:
        told.append(
            [
                row.method,
                "" if row.method == "dense" else row.budget,
                *map(_accuracy, row.accuracies, row.statuses),
            ]
        )
        if any(row.gains):
            told.append(["", "", *map(_gain, row.gains)])
    show_table(["method", "budget", *names], told)
    console.print(plain(f"below each: less that of {names[0]}, paired by seed; {_significance(rows)}", "dim"))
    console.print()
    show_table(["", *names], _costs(reports))


def _value(value: Any) -> str:
    return in_words(value) if isinstance(value, str | dict | list) else json.dumps(value)


def _accuracy(accuracy: Interval | None, status: str) -> str:
    return ", ".join(part for part in ("" if accuracy is None else str(accuracy), status) if part) or "–"


def _gain(gain: Gain | None) -> str:
    if gain is None:
        return ""
    p = "" if gain.p is None else f", p {gain.p:.2g}"
    return f"  {'+' if gain.difference.mean >= 0 else ''}{gain.difference}{p}{' *' if gain.is_significant else ''}"


def _significance(rows: Sequence[Compared]) -> str:
    known = [gain for row in rows for gain in row.gains if gain is not None]
    tested = [gain for gain in known if gain.p is not None]
    if not tested:
        return "one seed: no interval" if known else "they share no method, budget and seed"
    return f"* is significant at 5 %, Holm's correction for {len(tested)} comparisons"


def _costs(reports: Sequence[Report]) -> list[list[str]]:
    purposes = [purpose for purpose in PURPOSES if any(purpose in report.cost for report in reports)]
    rows = [["cost when made", *(seconds(sum(report.cost.values())) for report in reports)]]
    rows += [
        [
            f"  {PURPOSES[purpose]}",
            *(seconds(report.cost[purpose]) if purpose in report.cost else "–" for report in reports),
        ]
        for purpose in purposes
    ]
    kinds = dict.fromkeys((model.format, model.label) for report in reports for model in report.emitted)
    for format, budget in kinds:
        found = [[m for m in report.emitted if (m.format, m.label) == (format, budget)] for report in reports]
        rows.append([f"{format} at {budget}", *(size(models[0].bytes) if models else "–" for models in found)])
    return rows
