"""Self-contained HTML report: verdict, tables, plots and provenance, in light and dark themes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from autosparse.borders import optional
from autosparse.html.templating import Row, Table, asset, environment
from autosparse.html.theme import colour_variables, svg_rules
from autosparse.packaged import __version__
from autosparse.report import cells, speeds
from autosparse.report.provenance import recipe_table
from autosparse.report.schema import Provenance, Report
from autosparse.text import plural, quoted, visible

if TYPE_CHECKING:
    from autosparse.html.charts import Plot

_RECIPE = ("epochs", "batch", "optimizer", "lr", "schedule", "weight_decay", "precision")
"""settings of the recipe that the page shows; the spec has all"""


def plots_of(report: Report, output: str = "html") -> dict[str, Plot]:
    """Return the report's plots by name, without empty ones, for an option of `report` such as `--html`.

    Raises:
        MissingExtra: the extra `plots` is not installed.
    """
    charts, frontier, effort = _charts(output)
    drawn = {
        "accuracy": charts.accuracy_plot(report),
        "frontier": frontier.frontier_plot(report),
        "frontier_seconds": frontier.seconds_plot(report),
        "layers": charts.layers_plot(report),
        "irp": effort.rounds_plot(report),
        "tuning": effort.trials_plot(report),
        "cost": effort.cost_plot(report),
        "timeline": effort.timeline_plot(report),
    }
    return {name: plot for name, plot in drawn.items() if plot}


def plot_files(report: Report, kind: str) -> dict[str, bytes]:
    """Return the report's plots as files, name -> content; `kind` is `svg` or `png`.

    Raises:
        MissingExtra: the extra `plots` is not installed.
    """
    plots = plots_of(report, kind)
    from autosparse.html.render import png_of, svg_of

    if kind == "png":
        return {f"{name}.png": png_of(plot.file_spec) for name, plot in plots.items()}
    return {f"{name}.svg": svg_of(plot.file_spec).encode() for name, plot in plots.items()}


def report_page(report: Report, spec: str = "") -> str:
    """Return the whole page; `spec` is the text of the run's spec, if known.

    Raises:
        MissingExtra: the extra `plots` is not installed.
    """
    plots = plots_of(report)
    from markupsafe import Markup

    from autosparse.html.render import json_for_script, script_bundle, static_svg

    scripts = [script_bundle(), asset("report.js")] if plots else []
    page: str = (
        environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            plots=plots,
            svg=lambda plot: Markup(static_svg(plot.spec)),
            data=lambda plot: Markup(json_for_script(plot.spec)),
            policy=_policy(scripts),
            style=Markup(f"{colour_variables()}\n{asset('report.css')}\n{svg_rules('.plot ')}"),
            bundle=Markup(scripts[0]) if scripts else "",
            script=Markup(scripts[1]) if scripts else "",
            version=__version__,
            title=f"{report.spec}: {report.model} on {report.dataset}",
            summary=_summary(report),
            verdicts=cells.verdict_sentences(report),
            accuracy=accuracies_of(report),
            accuracy_note=accuracy_note_of(report),
            recipes=recipes_of(report),
            emitted=emitted_of(report),
            emitted_notes=[*speeds.sentences(report.emitted, speeds.AGAIN)],
            sanity=_checks(report),
            warnings=report.warnings,
            provenance=_facts(report),
            spec=Markup("\n").join(visible(line.rstrip().expandtabs(4)) for line in spec.rstrip().split("\n")),
        )
    )
    return page


def _charts(output: str) -> tuple[Any, Any, Any]:
    with optional("vl_convert", "altair", purpose=f"`report --{output}`", install="'autosparse[plots]'"):
        import vl_convert  # noqa: F401

        from autosparse.html import charts, effort_charts, frontier_charts
    return charts, frontier_charts, effort_charts


def _policy(scripts: Sequence[str]) -> str:
    # A browser runs these scripts alone and loads nothing, whatever else stands in the page.
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{one}'" for one in hashes) or "'none'"
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def _summary(report: Report) -> list[str]:
    seeds = report.provenance.seeds
    parts = [
        f"{report.results[0].total:,} prunable weights" if report.results else "",
        f"method {report.method}",
        f"seed{'s' * (len(seeds) != 1)} {', '.join(map(str, seeds))}",
        _date(report.provenance.finished),
    ]
    return [part for part in parts if part]


def _date(value: str) -> str:
    try:
        return f"{datetime.fromisoformat(value):%Y-%m-%d %H:%M %Z}"
    except ValueError:
        return value


def accuracies_of(report: Report) -> Table:
    """Return the table of test accuracies."""
    rows = [
        Row([row.title, *row.texts], row.name == report.method and not row.control) for row in cells.rows_of(report)
    ]
    return Table("test accuracies", ["method", *cells.columns_of(report).values()], rows)


def accuracy_note_of(report: Report) -> str:
    """Return the meaning of the numbers in the table of test accuracies."""
    several = any(len(values) > 1 for row in cells.rows_of(report) for values in row.cells)
    counted = cells.counted_interval(report)
    notes = [f"Test accuracy in %{', mean ± sd over seeds' * several}", counted, cells.limits_in_words(report)]
    return " ".join(f"{note}." for note in notes if note)


def recipes_of(report: Report) -> Table:
    """Return the table of the recipes that methods chose."""
    titles, rows = recipe_table(report)
    return Table("recipes", titles, [Row(row) for row in rows])


def emitted_of(report: Report) -> Table:
    """Return the table of exported models."""
    titles, rows = speeds.verified(report.emitted)
    return Table("exported models", titles, [Row(row) for row in rows])


def _checks(report: Report) -> list[str]:
    titles = cells.columns_of(report)
    return [
        f"{item.method} at {titles.get(item.budget, item.budget)}, {check.check.replace('_', ' ')}: {check.verdict}"
        for item in report.sanity
        for check in item.checks
        if check.verdict
    ]


_DONE = {"run": "run", "reuse": "reused", "resume": "resumed"}


def _facts(report: Report) -> list[tuple[str, str]]:
    about = report.provenance
    facts = {
        "run": report.run,
        "finished": _date(about.finished),
        "plan digest": about.digest[:16],
        "seeds": ", ".join(map(str, about.seeds)),
        "training recipe": _in_words(about.recipe),
        "steps": ", ".join(f"{count} {_DONE.get(status, status)}" for status, count in report.steps.items() if count),
        **_environments(about),
    }
    return [(name, value) for name, value in facts.items() if value]


def _in_words(recipe: Mapping[str, Any]) -> str:
    settings = ((name, recipe[name]) for name in _RECIPE if name in recipe)
    return ", ".join(f"{name} {value if isinstance(value, str) else quoted(value)}" for name, value in settings)


def _environments(about: Provenance) -> dict[str, str]:
    several = len(about.environments) > 1
    facts = {}
    for number, made in enumerate(about.environments, 1):
        versions = f"autosparse {made.autosparse}, torch {made.torch}, Python {made.python}"
        threads = plural(made.threads, "thread")
        steps = f" ({made.steps} steps)" if several else ""
        facts[f"environment {number}" if several else "environment"] = (
            f"{versions}; {made.device}, {threads}, {made.processor}{steps}"
        )
    return facts
