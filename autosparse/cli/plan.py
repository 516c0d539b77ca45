"""The command `plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autosparse.backends import this_machine
from autosparse.cli import options
from autosparse.cli.app import SpecRequest, app, prepare, say, show_json
from autosparse.console.format import show_text
from autosparse.console.plan import show_chain, show_plan
from autosparse.cost import Fitted, plan_json, shared
from autosparse.errors import UsageError
from autosparse.plan import (
    chain,
    draw_dot,
    draw_mermaid,
    excess_threads,
    explained,
    missing_data,
    missing_device,
    missing_libraries,
    save_plan,
    translations,
)
from autosparse.store import Store
from autosparse.text import shell_word


@app.command()
def plan(
    spec: options.SpecOrPlan = None,
    budget: options.Budget = None,
    set_: options.Set = None,
    steps: Annotated[bool, typer.Option("--steps", help="List every step.")] = False,
    explain: Annotated[str | None, options.steps_option("Tell all of one step.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Save the plan in a file, for `autosparse run FILE`.")
    ] = None,
    detailed_exitcode: Annotated[
        bool,
        typer.Option(
            "--detailed-exitcode", help="Exit with 0 when there is nothing to run, 2 when there is, 1 on any error."
        ),
    ] = False,
    dot: Annotated[bool, typer.Option("--dot", help="Draw the steps for Graphviz.")] = False,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Draw the steps for Mermaid, as Markdown has it.")] = False,
    refit: options.Refit = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show what a run would do: every step, reused, resumed or run, why, at which price, and whether it fits."""
    if explain and dot + mermaid:
        raise UsageError("`--explain` tells of one step: `--dot` and `--mermaid` draw all")
    if json_ + dot + mermaid > 1:
        raise UsageError("`--json`, `--dot` and `--mermaid` exclude each other: stdout is one document")
    store = Store.default()
    loaded, fitted, index = prepare(SpecRequest(spec, budget, set_, quiet=quiet, refit=refit), store)
    sharing = shared(fitted.plan, store, index, fitted.price, loaded.identity)
    if explain:
        _explain(fitted, explain, json_=json_)
    elif json_:
        show_json(plan_json(fitted, sharing))
    elif dot or mermaid:
        show_text((draw_dot if dot else draw_mermaid)(fitted.plan, fitted.statuses))
    else:
        show_plan(fitted, translations(fitted.plan), every_step=steps, sharing=sharing)
    if not quiet:
        _warn(fitted)
    if fitted.problem:
        raise fitted.problem
    if out:
        save_plan(out, fitted.plan, fitted.statuses, loaded.relative, loaded.path)
        if not quiet:
            say(f"plan saved in {out}: `autosparse run {shell_word(out)}` runs it as it is")
    if detailed_exitcode and fitted.to_run:
        raise typer.Exit(2)


def _explain(fitted: Fitted, step: str, *, json_: bool) -> None:
    compiled, statuses = fitted.plan, fitted.statuses
    links = [explained(compiled, statuses, name) for name in chain(compiled, statuses, step)]
    if json_:
        show_json({"schema_version": 1, "chain": links})
    else:
        show_chain(links)


def _warn(fitted: Fitted) -> None:
    compiled, statuses, machine = fitted.plan, fitted.statuses, this_machine()
    absent = [*missing_data(compiled, statuses), *missing_libraries(compiled, statuses)]
    for problem, hint in [*absent, *missing_device(compiled, machine), *excess_threads(compiled, machine)]:
        say(f"warning: {problem}\nhint: {hint}")
