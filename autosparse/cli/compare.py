"""The command `compare`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from autosparse.cli import options
from autosparse.cli.app import app, show_json
from autosparse.console import show_compared
from autosparse.errors import UsageError
from autosparse.report import compare_results, compare_settings, find_run, report_of, resolved_of


@app.command()
def compare(
    run: Annotated[list[str], options.runs_argument("Runs' folders or names, two or more.", "RUN RUN...")],
    json_: options.Json = False,
) -> None:
    """Tell what differed in the specs of runs, field by field, and what in their results, with significance."""
    if len(run) < 2:
        raise UsageError("`compare` takes two runs or more", "run `autosparse runs` to see those of this directory")
    chosen = [find_run(name) for name in run]
    reports = [report_of(one, "compared") for one in chosen]
    settings, rows = compare_settings([resolved_of(one) for one in chosen]), compare_results(reports)
    are_distinct = len({one.folder.name for one in chosen}) == len(chosen)
    names = [one.folder.name if are_distinct else str(one.folder) for one in chosen]
    if json_:
        show_json(
            {
                "schema_version": 1,
                "runs": [str(one.folder) for one in chosen],
                "settings": [asdict(row) for row in settings],
                "results": [asdict(row) for row in rows],
                "cost": [dict(report.cost) for report in reports],
            }
        )
    else:
        show_compared(names, settings, rows, reports)
