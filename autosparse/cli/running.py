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
    PlanArgument,
    QuietOption,
    SetOption,
    app,
    json_text,
    prepare,
    say,
)
from autosparse.console import follow, show_report, show_runs, show_text
from autosparse.errors import UsageError
from autosparse.execute import Execution
from autosparse.plan import check_budget, count, missing_data, missing_device, plan_json, save_plan
from autosparse.report import all_runs, build_report, copy_emitted, find_run, open_folder, save_report
from autosparse.store import Store


@app.command()
def plan(
    spec: PlanArgument = None,
    budget: BudgetOption = None,
    set_: SetOption = None,
    steps: Annotated[bool, typer.Option("--steps", help="List every step.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Save the plan in a file, for `autosparse run FILE`.")
    ] = None,
    detailed_exitcode: Annotated[
        bool, typer.Option(help="Exit with 0 when there is nothing to run, 2 when there is, 1 on any error.")
    ] = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show what a run would do: every step, reused or run."""
    store = Store.default()
    loaded, compiled, found = prepare(spec, store, budget, set_, quiet=quiet)
    check_budget(compiled, store)
    if out:
        save_plan(out, compiled, found, loaded.relative)
    if json_:
        show_text(json_text(plan_json(compiled, found)))
    else:
        from autosparse.console import show_plan

        show_plan(compiled, found, every_step=steps)
    if not quiet:
        for problem, hint in [*missing_data(compiled, found), *missing_device(compiled, this_machine())]:
            say(f"warning: {problem}\nhint: {hint}")
        if out:
            say(f"plan saved in {out}: `autosparse run {out}` runs it as it is")
    if detailed_exitcode and count(found)["reuse"] < len(found):
        raise typer.Exit(2)


@app.command()
def run(
    spec: PlanArgument = None,
    budget: BudgetOption = None,
    set_: SetOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="The run's folder, instead of runs/NAME-N.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait for a step that another process is making.")] = True,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run a plan: reuse what is there, make what is not, emit pruned models, report.

    A plan saved by `plan --out` is run as it was planned, or refused with exit code 2 and what has moved since.
    """

    store = Store.default()
    loaded, compiled, found = prepare(spec, store, budget, set_, quiet=quiet)
    folder = open_folder(
        compiled.name,
        plan_json(compiled, found),
        digest=compiled.digest,
        spec=loaded.path,
        resolved=compiled.spec.model_dump(mode="json"),
        out=out,
    )
    to_run = count(found)["run"]
    if not quiet and to_run == 0:
        say(f"nothing to run: all {len(found)} steps are in the cache")
    elif not quiet:
        say(f"{to_run} step{'s' * (to_run != 1)} to run, {len(found) - to_run} reused")
    with _kept_on_interrupt(quiet) as told, follow(compiled, found, quiet=quiet) as observer:
        execution = Execution(compiled, store, observer, wait=wait)
        told.append(lambda: _interrupted(execution.outcome.steps, len(found)))
        outcome = execution.run()
        emitted = execution.read(lambda: copy_emitted(compiled, store, folder))
        report = execution.read(
            lambda: build_report(
                compiled,
                store,
                run=str(folder),
                steps={"run": outcome.count("run"), "reuse": outcome.count("reuse"), "resume": 0},
                seconds=outcome.seconds,
                emitted=emitted,
            )
        )
        if outcome.count("run") or find_run(str(folder)).report is None:
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
    made = sum(status == "run" for status in finished.values())
    return (
        f"stopped: {len(finished)} of {total} steps are kept ({made} made by this call)\n"
        "hint: the same command resumes with the next step"
    )
