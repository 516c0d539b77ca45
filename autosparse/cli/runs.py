"""The commands `runs`, `runs tag` and `runs rm`."""

from __future__ import annotations

from typing import Annotated

import typer

from autosparse.cli import options
from autosparse.cli.app import app, say, show_json
from autosparse.console import show_runs
from autosparse.report import Reached, all_runs, find_run, history, remove_folder, tag_run, tags_of

runs = typer.Typer(help="List the runs of this directory.", invoke_without_command=True, rich_markup_mode=None)
app.add_typer(runs, name="runs")


@runs.callback()
def listed(
    context: typer.Context,
    tag: Annotated[list[str] | None, typer.Option(help="Those with this tag; repeatable: with all.")] = None,
    spec: Annotated[str | None, typer.Option(help="Those of the spec of this name.")] = None,
    model: Annotated[str | None, typer.Option(help="Those of this network.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Those on this dataset.")] = None,
    method: Annotated[str | None, typer.Option(help="Those with this method.")] = None,
    json_: options.Json = False,
) -> None:
    """List the runs of this directory, and which is the best at which budget."""
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


@runs.command("tag")
def tag_(
    run: Annotated[str, options.runs_argument("A run's folder or name.")],
    tag: Annotated[list[str], typer.Argument(metavar="TAG...", help="Tags to give it.")],
    remove: Annotated[bool, typer.Option("--remove", help="Take the tags away.")] = False,
) -> None:
    """Give a run tags, by which `autosparse runs --tag TAG` finds it, or take them away."""
    tags = tags_of(tag)
    tagged = tag_run(find_run(run), remove=tags) if remove else tag_run(find_run(run), tags)
    say(f"{tagged.folder} has {'tags ' + ', '.join(tagged.tags) if tagged.tags else 'no tag'}")


@runs.command("rm")
def remove(
    run: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs' folders or names.")],
) -> None:
    """Remove runs' folders, emitted models included; what they were made from stays in the cache."""
    for folder in [find_run(named).folder for named in dict.fromkeys(run)]:
        remove_folder(folder)
        say(f"removed {folder}")


def _run_json(one: Reached) -> dict[str, object]:
    about = {name: getattr(one.run.report, name, None) for name in ("spec", "model", "dataset", "method")}
    return {
        "run": str(one.run.folder),
        "finished": one.run.report is not None,
        "tags": list(one.run.tags),
        **about,
        "accuracy": one.accuracy,
        "best": list(one.best),
        "statuses": one.statuses,
    }
