"""report, runs: what runs found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from autosparse.cli.app import JsonOption, app, json_text, say
from autosparse.cli.completing import run_names
from autosparse.console import SECTIONS, plots_of, report_page, show_report, show_runs, show_text, standalone
from autosparse.errors import MissingRequirement, UsageError
from autosparse.registry import suggestion
from autosparse.report import Report, all_runs, find_run, remove_folder, report_csv, report_markdown


@app.command()
def report(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run's folder or name.", autocompletion=run_names)
    ] = None,
    section: Annotated[
        list[str] | None, typer.Option(help=f"Show this alone, repeatable: {', '.join(SECTIONS)}.")
    ] = None,
    method: Annotated[list[str] | None, typer.Option(help="Of this method alone, repeatable.")] = None,
    sort: Annotated[
        Literal["accuracy", "name"] | None, typer.Option(help="Order methods so; else the spec's comes first.")
    ] = None,
    wide: Annotated[
        bool, typer.Option("--wide", help="Tell of every budget what else is told of the strictest, and all layers.")
    ] = False,
    json_: JsonOption = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print a line for every trained network.")] = False,
    md: Annotated[bool, typer.Option("--md", help="Print the table of accuracies as Markdown.")] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it as one page with plots that needs nothing else.")
    ] = None,
    svg: Annotated[Path | None, typer.Option(metavar="DIR", help="Write its plots, one file each.")] = None,
) -> None:
    """Show a run's report again; without RUN, the latest one's."""

    if unknown := [name for name in section or () if name not in SECTIONS]:
        hint = suggestion(unknown[0], SECTIONS) or f"sections: {', '.join(SECTIONS)}"
        raise UsageError(f"a report has no section `{unknown[0]}`", hint)
    if json_ + csv + md + (html is not None) + (svg is not None) > 1:
        raise UsageError("`--json`, `--csv`, `--md`, `--html` and `--svg` are different outputs", "name one")
    found = find_run(run)
    if found.report is None:
        raise UsageError(f"run {found.folder} cannot be shown: {found.problem}", "the command that began it mends that")
    shown = _only(found.report, method or ())
    if json_:
        show_text(json_text(shown.json()))
    elif html is not None:
        _write({html: report_page(shown)})
    elif svg is not None:
        _write({svg / f"{name}.svg": standalone(plot) for name, plot in plots_of(shown).items()})
    elif csv or md:
        show_text(report_csv(shown) if csv else report_markdown(shown))
    else:
        show_report(shown, section or (), sort=sort or "", wide=wide)


runs = typer.Typer(help="List the runs of this directory.", invoke_without_command=True, rich_markup_mode=None)
app.add_typer(runs, name="runs")


@runs.callback()
def listed(context: typer.Context, json_: JsonOption = False) -> None:
    """List the runs of this directory."""

    if context.invoked_subcommand:
        return
    found = all_runs()
    if json_:
        told = [{"run": str(r.folder), "finished": r.report is not None} for r in found]
        show_text(json_text({"schema_version": 1, "runs": told}))
    elif found:
        show_runs(found)
    else:
        say("there is no run in this directory yet\nhint: run `autosparse run`")


@runs.command("rm")
def remove(
    run: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs' folders or names.")],
) -> None:
    """Remove runs' folders, emitted models included; what they were made from stays in the cache."""

    for folder in [find_run(named).folder for named in dict.fromkeys(run)]:
        remove_folder(folder)
        say(f"removed {folder}")


def _write(files: Mapping[Path, str]) -> None:
    if there := [path for path in files if path.exists()]:
        raise UsageError(f"{there[0]} is there already", "name another")
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MissingRequirement(f"{error.filename} cannot be written: {error.strerror}", "name another") from error
    say(f"wrote {', '.join(map(str, files)) or 'nothing: the report has no plots'}")


def _only(report: Report, methods: Sequence[str]) -> Report:
    known = dict.fromkeys(result.method for result in report.results)
    if unknown := [method for method in methods if method not in known]:
        hint = suggestion(unknown[0], [*known]) or f"its methods: {', '.join(known)}"
        raise UsageError(f"run {report.run} has no method `{unknown[0]}`", hint)
    if not methods:
        return report
    return replace(
        report,
        results=[result for result in report.results if result.method in methods],
        controls=[control for control in report.controls if control.method.rpartition(".")[0] in methods],
        verdicts=report.verdicts if report.method in methods else (),
        mask_costs=[cost for cost in report.mask_costs if cost.method in methods],
        profiles=[profile for profile in report.profiles if profile.method in methods],
        sanity=[item for item in report.sanity if item.method in methods],
        emitted=[model for model in report.emitted if model.method in methods],
    )
