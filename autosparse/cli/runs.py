"""Commands `report`, `runs`, `runs tag` and `runs rm`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from autosparse.cli import options
from autosparse.cli.app import app, check_known, say, show_json
from autosparse.cli.help import OUTPUT, Command, Group, examples
from autosparse.cli.options import option
from autosparse.console.format import show_text
from autosparse.console.report import SECTIONS, show_report, show_runs
from autosparse.errors import UsageError
from autosparse.html.page import plot_files, report_page
from autosparse.report.cells import only, report_csv, report_markdown
from autosparse.report.folder import (
    Reached,
    all_runs,
    find_run,
    history,
    remove_folder,
    report_of,
    spec_text_of,
    tag_run,
    tags_of,
    write_folder,
)
from autosparse.report.schema import Report
from autosparse.store.files import occupied
from autosparse.text import listed as listed_names

_SHOWN = "Contents"
_SECTION_HELP = f"Show only this section; repeatable: {', '.join(SECTIONS)}."
_SORT_HELP = "Sort methods by accuracy or name; by default the spec's method comes first."


@app.command(cls=Command, epilog=examples("report", "report digits-1 --wide", "report digits-1 --html report.html"))
def report(
    run: Annotated[str | None, options.runs_argument("Run folder or name; without one, the latest run.")] = None,
    section: Annotated[list[str] | None, option(_SHOWN, _SECTION_HELP, metavar="SECTION")] = None,
    method: Annotated[list[str] | None, option(_SHOWN, "Show only this method; repeatable.", metavar="METHOD")] = None,
    sort: Annotated[Literal["accuracy", "name"] | None, option(_SHOWN, _SORT_HELP, metavar="ORDER")] = None,
    wide: Annotated[bool, option(_SHOWN, "Show every section for every budget.", "--wide")] = False,
    json_: options.Json = False,
    csv: Annotated[bool, option(OUTPUT, "Print one line per trained network.", "--csv")] = False,
    md: Annotated[bool, option(OUTPUT, "Print the accuracy table as Markdown.", "--md")] = False,
    html: Annotated[
        Path | None, option(OUTPUT, "Write a self-contained HTML report (extra `plots`).", metavar="FILE")
    ] = None,
    svg: Annotated[Path | None, option(OUTPUT, "Write its plots as SVG files (extra `plots`).", metavar="DIR")] = None,
    png: Annotated[Path | None, option(OUTPUT, "Write its plots as PNG files (extra `plots`).", metavar="DIR")] = None,
) -> None:
    """Show the report of a run; without RUN, of the latest."""
    for name in section or ():
        check_known(name, SECTIONS, f"a report has no section `{name}`", "sections")
    outputs = {"--json": json_, "--csv": csv, "--md": md, "--html": html, "--svg": svg, "--png": png}
    _check_outputs(_given(outputs), _given({"--section": section, "--sort": sort, "--wide": wide}))
    chosen = find_run(run)
    whole = report_of(chosen, "shown")
    _check_methods(whole, method or ())
    shown = only(whole, method or ())
    if json_:
        show_json(shown.json())
    elif html is not None:
        _write(html.parent, {html.name: report_page(shown, spec_text_of(chosen)).encode("utf-8", "replace")})
    elif svg is not None:
        _write(svg, plot_files(shown, "svg"))
    elif png is not None:
        _write(png, plot_files(shown, "png"))
    elif csv or md:
        show_text(report_csv(shown) if csv else report_markdown(shown))
    else:
        show_report(whole, section or (), sort=sort or "", wide=wide, methods=method or ())


def _check_outputs(outputs: Sequence[str], for_terminal: Sequence[str]) -> None:
    if len(outputs) > 1:
        raise UsageError("`--json`, `--csv`, `--md`, `--html`, `--svg` and `--png` are different outputs", "name one")
    if outputs and for_terminal:
        raise UsageError(f"`{for_terminal[0]}` is about the report on a terminal, and `{outputs[0]}` prints another")


def _given(options: Mapping[str, object]) -> list[str]:
    return [name for name, value in options.items() if value not in (None, False, [])]


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    if not files:
        say("wrote nothing: the report has no plots")
        return
    paths = [folder / name for name in files]
    if there := occupied(dict(zip(paths, files.values(), strict=True))):
        raise UsageError(f"{there} exists", "name another")
    write_folder(folder, {name: partial(bytes, data) for name, data in files.items()}, hint="name another")
    say(f"wrote {', '.join(map(str, paths))}")


def _check_methods(report: Report, methods: Sequence[str]) -> None:
    known = dict.fromkeys([*(r.method for r in report.results), *(m.method for m in report.missing if not m.control)])
    for method in methods:
        check_known(method, known, f"run {report.run} has no method `{method}`", "its methods")


runs = typer.Typer(
    cls=Group,
    help="List the runs of this directory.",
    epilog=examples("runs", "runs --tag baseline", "runs tag digits-1 baseline"),
    invoke_without_command=True,
    rich_markup_mode=None,
)
app.add_typer(runs, name="runs")


@runs.callback()
def listed(
    context: typer.Context,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="Show runs with this tag; repeat to require several.")
    ] = None,
    spec: Annotated[str | None, typer.Option(metavar="SPEC", help="Show runs of the spec of this name.")] = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Show runs of this network.")] = None,
    dataset: Annotated[str | None, typer.Option(metavar="DATASET", help="Show runs on this dataset.")] = None,
    method: Annotated[
        str | None, typer.Option(metavar="METHOD", help="Show runs whose `method` has this name.")
    ] = None,
    json_: options.Json = False,
) -> None:
    """List the runs of this directory and the best at each budget."""
    if context.invoked_subcommand:
        return
    wanted = {"spec": spec, "model": model, "dataset": dataset, "method": method}
    asked = {name: value for name, value in wanted.items() if value is not None}
    everything = all_runs()
    chosen = [
        run
        for run in everything
        if {*(tag or ())} <= {*run.tags} and all(getattr(run.report, name, None) == asked[name] for name in asked)
    ]
    reached = history(chosen)
    if json_:
        show_json({"schema_version": 1, "runs": [_run_json(one) for one in reached]})
    elif chosen:
        show_runs(reached)
    elif everything:
        say(f"none of the {len(everything)} runs of this directory is such a one")
    else:
        say("there is no run in this directory yet\nhint: run `autosparse run`")


@runs.command("tag", cls=Command, epilog=examples("runs tag digits-1 baseline"))
def tag_(
    run: Annotated[str, options.runs_argument("Run folder or name.")],
    tag: Annotated[list[str], typer.Argument(metavar="TAG...", help="Tags to add.")],
    remove: Annotated[bool, typer.Option("--remove", help="Remove the tags.")] = False,
) -> None:
    """Add tags to a run, or remove them; `autosparse runs --tag TAG` filters by them."""
    tags = tags_of(tag)
    tagged = tag_run(find_run(run), remove=tags) if remove else tag_run(find_run(run), tags)
    say(f"{tagged.folder} has {'tags ' + ', '.join(tagged.tags) if tagged.tags else 'no tag'}")


@runs.command("rm", cls=Command, epilog=examples("runs rm digits-1 digits-2", "runs rm digits-1 --yes"))
def remove(
    run: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs' folders or names.")],
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Remove without a question; required where stdin is no terminal.")
    ] = False,
) -> None:
    """Remove the folders of runs after a confirmation; their artifacts stay in the cache."""
    folders = [*{(folder := find_run(named).folder).resolve(): folder for named in run}.values()]
    if not yes and not _confirmed(folders):
        say("removed nothing")
        raise typer.Exit(1)
    for folder in folders:
        remove_folder(folder)
        say(f"removed {folder}")


def _confirmed(folders: Sequence[Path]) -> bool:
    """Ask whether to remove folders, with models and reports that no cache holds."""
    if not sys.stdin.isatty():
        raise UsageError("`runs rm` asks for a confirmation, and stdin is no terminal", "add `--yes`")
    answer = typer.prompt(
        f"Remove {listed_names(folders)}? [y/N]", default="n", show_default=False, prompt_suffix=" ", err=True
    )
    return str(answer).strip().lower() in ("y", "yes")


def _run_json(one: Reached) -> dict[str, object]:
    about = {name: getattr(one.run.report, name, None) for name in ("spec", "model", "dataset", "method")}
    return {
        "run": str(one.run.folder),
        "finished": one.run.report is not None,
        "problem": one.run.problem or None,
        "tags": list(one.run.tags),
        **about,
        "accuracy": one.accuracy,
        "best": list(one.best),
        "statuses": one.statuses,
    }
