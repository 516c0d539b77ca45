"""plan, run, report, runs: what most people use every day."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from autosparse.backends import this_machine
from autosparse.cli.app import (
    BudgetOption,
    JsonOption,
    QuietOption,
    RefitOption,
    SetOption,
    SpecArgument,
    app,
    fit_loaded,
    json_text,
    load,
    say,
)
from autosparse.console import follow, show_budgets, show_chain, show_plan, show_report, show_runs, show_text
from autosparse.errors import UsageError
from autosparse.execute import Execution
from autosparse.plan import (
    chain,
    count,
    explained,
    missing_data,
    missing_device,
    plan_json,
    remember_use,
    shared,
    translations,
)
from autosparse.report import all_runs, build_report, copy_emitted, find_run, open_folder, save_report
from autosparse.store import Store, open_index


@app.command()
def plan(
    spec: SpecArgument = None,
    budget: BudgetOption = None,
    set_: SetOption = None,
    steps: Annotated[bool, typer.Option("--steps", help="List every step.")] = False,
    explain: Annotated[str | None, typer.Option("--explain", metavar="STEP", help="Tell all of one step.")] = None,
    refit: RefitOption = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show what a run would do: every step, reused, resumed or run, why, at which price, and whether it fits."""
    store = Store.default()
    loaded = load(spec, store, budget, set_, quiet=quiet)
    index = open_index(store)
    fitted = fit_loaded(loaded, store, index, quiet=quiet, refit=refit)
    compiled, found = fitted.plan, fitted.found
    sharing = shared(compiled, store, index, fitted.price, str(loaded.path))
    if explain:
        links = [explained(compiled, found, name) for name in chain(compiled, found, explain)]
        if json_:
            show_text(json_text({"schema_version": 1, "chain": links}))
        else:
            show_chain(links)
    elif json_:
        show_text(json_text(plan_json(fitted, sharing)))
    else:
        show_plan(fitted, every_step=steps, sharing=sharing)
        show_budgets(translations(compiled))
    if not quiet:
        for problem, hint in [*missing_data(compiled, found), *missing_device(compiled, this_machine())]:
            say(f"warning: {problem}\nhint: {hint}")
    if fitted.problem:
        raise fitted.problem


@app.command()
def run(
    spec: SpecArgument = None,
    budget: BudgetOption = None,
    set_: SetOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="The run's folder, instead of runs/NAME-N.")] = None,
    refit: RefitOption = False,
    wait: Annotated[bool, typer.Option(help="Wait for a step that another process is making.")] = True,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run a plan: reuse what is there, make what is not, emit pruned models, report."""

    store = Store.default()
    loaded = load(spec, store, budget, set_, quiet=quiet)
    fitted = fit_loaded(loaded, store, open_index(store), quiet=quiet, refit=refit)
    compiled, found = fitted.plan, fitted.found
    if fitted.problem:
        raise fitted.problem
    folder = open_folder(
        compiled.name,
        plan_json(fitted),
        digest=compiled.digest,
        spec=loaded.path,
        resolved=compiled.spec.model_dump(mode="json"),
        out=out,
    )
    to_run = len(found) - count(found)["reuse"]
    if not quiet and to_run == 0:
        say(f"nothing to run: all {len(found)} steps are in the cache")
    elif not quiet:
        say(f"{to_run} step{'s' * (to_run != 1)} to run, {len(found) - to_run} reused")
    with _kept_on_interrupt(quiet) as told, follow(fitted, quiet=quiet) as observer:
        execution = Execution(compiled, store, observer, place=fitted.place, wait=wait)
        told.append(lambda: _interrupted(execution.outcome.steps, len(found)))
        outcome = execution.run()
        remember_use(compiled, store, str(loaded.path))
        emitted = execution.read(lambda: copy_emitted(compiled, store, folder))
        report = execution.read(
            lambda: build_report(
                compiled,
                store,
                run=str(folder),
                steps={status: outcome.count(status) for status in ("run", "reuse", "resume")},
                seconds=outcome.seconds,
                emitted=emitted,
            )
        )
        if outcome.count("reuse") < len(outcome.steps) or find_run(str(folder)).report is None:
            save_report(folder, report)  # a call that ran nothing leaves the report of the one that did
    if json_:
        show_text(json_text(report.json()))
    else:
        show_report(report)


@app.command()
def report(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run's folder or name.")] = None,
    json_: JsonOption = False,
) -> None:
    """Show a run's report again; without RUN, the latest one's."""

    found = find_run(run)
    if found.report is None:
        raise UsageError(f"run {found.folder} cannot be shown: {found.problem}", "the command that began it mends that")
    if json_:
        show_text(json_text(found.report.json()))
    else:
        show_report(found.report)


@app.command()
def runs(json_: JsonOption = False) -> None:
    """List the runs of this directory."""

    found = all_runs()
    if json_:
        listed = [{"run": str(r.folder), "finished": r.report is not None} for r in found]
        show_text(json_text({"schema_version": 1, "runs": listed}))
    elif found:
        show_runs(found)
    else:
        say("there is no run in this directory yet\nhint: run `autosparse run`")


class Terminated(BaseException):
    """SIGTERM arrived."""


def terminate(number: int, frame: FrameType | None) -> None:
    """Handle SIGTERM: stop as Ctrl-C does, with another exit code."""
    raise Terminated


@contextmanager
def _kept_on_interrupt(quiet: bool) -> Iterator[list[Callable[[], str]]]:
    told: list[Callable[[], str]] = []
    try:
        yield told
    except (KeyboardInterrupt, Terminated) as reason:
        if not quiet:
            say(told[0]() if told else "stopped before anything ran")
        raise SystemExit(130 if isinstance(reason, KeyboardInterrupt) else 143) from None


def _interrupted(finished: Mapping[str, str], total: int) -> str:
    made = sum(status != "reuse" for status in finished.values())
    return (
        f"stopped: {len(finished)} of {total} steps are kept ({made} made by this call)\n"
        "hint: the same command resumes with the next step"
    )
