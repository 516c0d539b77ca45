"""Plans and reports as HTML that a notebook shows: tables, static plots, and folded details."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from autosparse.errors import MissingExtra
from autosparse.html.page import accuracies_of, accuracy_note_of, emitted_of, plots_of, recipes_of
from autosparse.html.templating import Row, Table, asset, environment
from autosparse.planning.model import PURPOSES
from autosparse.report import cells
from autosparse.report.schema import Report
from autosparse.text import number, seconds, seconds_range, size

_MOST_ROWS = 500
_PLOTS = ("frontier", "accuracy", "layers")
_SIGNS = {"run": "+", "resume": ">", "reuse": "="}


def plan_fragment(plan: Mapping[str, Any], title: str) -> str:
    """Return a plan, in the form of `plan --json`, as a fragment of HTML."""
    steps, summary = plan["steps"], plan["summary"]
    left = [step for step in steps if step["status"] != "reuse"]
    return _rendered(
        title=title,
        lines=[_totals(plan), *(_work(summary) if left else [])],
        tables=[_operations(steps)],
        folded=[_every_step(steps)],
        warnings=plan["warnings"],
    )


def report_fragment(report: Report) -> str:
    """Return a report as a fragment of HTML; plots need the extra `plots` and are left out without it."""
    plots: list[Any] = []
    with suppress(MissingExtra):
        drawn = plots_of(report)
        plots = [drawn[name] for name in _PLOTS if name in drawn]
    emitted = [emitted_of(report)] if report.emitted else []
    recipes = [recipes_of(report)] if report.recipes else []
    return _rendered(
        title=f"{report.spec}: {report.model} on {report.dataset}",
        lines=[accuracy_note_of(report), *([f"run folder: {report.run}"] if report.run else [])],
        sentences=cells.verdict_sentences(report),
        tables=[accuracies_of(report), *recipes, *emitted],
        plots=plots,
        warnings=report.warnings,
    )


def _rendered(*, plots: Sequence[Any] = (), **parts: Any) -> str:
    from markupsafe import Markup

    if plots:
        from autosparse.html.render import static_svg
    empty: dict[str, Any] = {"sentences": (), "tables": (), "folded": (), "warnings": ()}
    page: str = (
        environment()
        .get_template("notebook.html.j2")
        .render(
            style=Markup(asset("notebook.css")),
            plots=plots,
            svg=lambda plot: Markup(static_svg(plot.spec)),
            **{**empty, **parts},
        )
    )
    return page


def _totals(plan: Mapping[str, Any]) -> str:
    summary = plan["summary"]
    run, reused = summary["run"] + summary["resume"], summary["reuse"]
    if not run:
        return f"nothing to run: all {reused} steps are in the cache"
    parts = [f"{run} to run, {reused} reused"]
    if summary["present_seconds_low"] is not None:
        parts.append(f"about {seconds_range(summary['present_seconds_low'], summary['present_seconds_high'])}")
        parts.append(f"peak {size(summary['peak_bytes'])}, {size(summary['disk_bytes'])} new")
    return ", ".join(parts)


def _work(summary: Mapping[str, Any]) -> list[str]:
    trainings, counted = summary["dense_trainings"], summary["counted"]
    if trainings is None or counted is None:
        return []
    return [f"cost: {trainings:.3g} dense trainings ({number(counted['macs'])} MACs)"]


def _operations(steps: Sequence[Mapping[str, Any]]) -> Table:
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for step in steps:
        groups.setdefault((step["purpose"], step["operation"]), []).append(step)
    rows = []
    for (purpose, operation), group in groups.items():
        tally = ", ".join(
            f"{kind} {count}" for kind in _SIGNS if (count := sum(step["status"] == kind for step in group))
        )
        left = [step["estimate"]["seconds"] for step in group if step["status"] != "reuse"]
        time = "" if not left else "?" if None in left else seconds(sum(left))
        rows.append(Row([f"{PURPOSES.get(purpose, purpose)}: {operation}", tally, time]))
    return Table("steps by operation", ["operation", "steps", "time"], rows)


def _every_step(steps: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        Row([f"{_SIGNS[step['status']]} {step['name']}", step["status"], step["reason"]], step["status"] != "reuse")
        for step in steps[:_MOST_ROWS]
    ]
    more = f" (the first {_MOST_ROWS} of {len(steps)})" if len(steps) > _MOST_ROWS else ""
    return Table(f"every step{more}", ["step", "status", "reason"], rows)
