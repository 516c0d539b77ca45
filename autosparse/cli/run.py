"""The commands `plan` and `run`."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
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
    RefitOption,
    SetOption,
    app,
    json_text,
    prepare,
    say,
)
from autosparse.cli.completion import step_names
from autosparse.console import follow, show_chain, show_made, show_plan, show_report, show_text
from autosparse.cost import fit_steps, plan_json, remember_use, shared
from autosparse.errors import UsageError
from autosparse.execute import Everyone, Execution, Log, Note, Outcome, Tracking, made_json
from autosparse.plan import (
    Plan,
    Step,
    chain,
    count,
    draw_dot,
    draw_mermaid,
    excess_threads,
    explained,
    missing_data,
    missing_device,
    missing_libraries,
    save_plan,
    select_steps,
    translations,
)
from autosparse.report import (
    LOG,
    Failure,
    Finished,
    Report,
    build_report,
    can_report,
    copy_emitted,
    copy_scorer,
    find_run,
    leaves,
    open_folder,
    save_metrics,
    save_report,
    tag_run,
    tags_of,
)
from autosparse.steps import Metrics, metrics_of
from autosparse.store import Store
from autosparse.text import shell_word
from autosparse.trackers import Followed


@app.command()
def plan(
    spec: PlanArgument = None,
    budget: BudgetOption = None,
    set_: SetOption = None,
    steps: Annotated[bool, typer.Option("--steps", help="List every step.")] = False,
    explain: Annotated[
        str | None, typer.Option("--explain", metavar="STEP", help="Tell all of one step.", autocompletion=step_names)
    ] = None,
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
    refit: RefitOption = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show what a run would do: every step, reused, resumed or run, why, at which price, and whether it fits."""
    if explain and dot + mermaid:
        raise UsageError("`--explain` tells of one step: `--dot` and `--mermaid` draw all")
    if json_ + dot + mermaid > 1:
        raise UsageError("`--json`, `--dot` and `--mermaid` exclude each other: stdout is one document")
    store = Store.default()
    loaded, fitted, index = prepare(spec, store, budget, set_, quiet=quiet, refit=refit)
    compiled, found = fitted.plan, fitted.found
    sharing = shared(compiled, store, index, fitted.price, loaded.identity)
    if explain:
        links = [explained(compiled, found, name) for name in chain(compiled, found, explain)]
        if json_:
            show_text(json_text({"schema_version": 1, "chain": links}))
        else:
            show_chain(links)
    elif json_:
        show_text(json_text(plan_json(fitted, sharing)))
    elif dot or mermaid:
        show_text((draw_dot if dot else draw_mermaid)(compiled, found))
    else:
        show_plan(fitted, translations(compiled), every_step=steps, sharing=sharing)
    if not quiet:
        here, absent = this_machine(), [*missing_data(compiled, found), *missing_libraries(compiled, found)]
        for problem, hint in [*absent, *missing_device(compiled, here), *excess_threads(compiled, here)]:
            say(f"warning: {problem}\nhint: {hint}")
    if fitted.problem:
        raise fitted.problem
    if out:
        save_plan(out, compiled, found, loaded.relative, loaded.path)
        if not quiet:
            say(f"plan saved in {out}: `autosparse run {shell_word(out)}` runs it as it is")
    if detailed_exitcode and count(found)["reuse"] < len(found):
        raise typer.Exit(2)


@app.command()
def run(
    spec: PlanArgument = None,
    budget: BudgetOption = None,
    set_: SetOption = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STEP",
            help="Run these steps and what they need; a name or `train/*`; repeatable.",
            autocompletion=step_names,
        ),
    ] = None,
    force: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STEP",
            help="Make these steps again though they are in the cache; repeatable.",
            autocompletion=step_names,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The run's folder, instead of runs/NAME-N.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Tag the run, for `autosparse runs --tag`; repeatable.")] = None,
    refit: RefitOption = False,
    wait: Annotated[bool, typer.Option(help="Wait for a step that another process is making.")] = True,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run a plan: reuse what is there, make what is not, emit pruned models, report.

    A step that fails costs the steps that depend on it: all others finish and are reported, with exit code 1.

    A plan saved by `plan --out` is run as it was planned, or refused with exit code 2 and what has moved since.

    With `--only` nothing else is run. Unless that finishes the plan, what was made is listed in place of a report.

    A step made again by `--force` replaces the one in the cache when it is whole. If its bytes are the same, nothing
    else is made again. If they differ, so are the plan's steps that were made from the bytes before, as far as this
    run goes through them; what is left as it was, here and in other specs, is named.
    """

    store = Store.default()
    loaded, fitted, _ = prepare(spec, store, budget, set_, quiet=quiet, refit=refit)
    compiled, everything = fitted.plan, fitted.found
    if force and loaded.path is None:
        raise UsageError(f"a saved plan is run as it is: {spec} takes no `--force`", "force a step of its spec")
    selection = select_steps(compiled, everything, only=only or (), force=force or ())
    if (out or tag) and not selection.finishes:
        where = f"put into {out}" if out else "tag"
        raise UsageError(f"`--only` leaves the plan unfinished: there is no report to {where}")
    tags = tags_of(tag or ())
    found = selection.found
    fitted = fit_steps(fitted, found)
    if fitted.problem:
        raise fitted.problem
    folder = None
    if selection.finishes:
        folder = open_folder(
            compiled.name,
            plan_json(fitted),
            digest=compiled.digest,
            spec=loaded.path,
            resolved=compiled.spec.model_dump(mode="json"),
            out=out,
        )
        if tags:
            tag_run(find_run(str(folder)), tags)
    to_run = len(found) - count(found)["reuse"]
    if not quiet and to_run == 0:
        say(f"nothing to run: all {len(found)} steps are in the cache")
    elif not quiet:
        say(f"{to_run} step{'s' * (to_run != 1)} to run, {len(found) - to_run} reused")
    if to_run and not quiet:
        for taken in fitted.taken:
            say(f"to fit {taken.limit}: {taken}")
        for note in fitted.notes:
            say(f"note: {note}")
    with kept_on_interrupt(quiet) as told, ExitStack() as stack:
        followed = [stack.enter_context(follow(replace(fitted, found=found), quiet=quiet))]
        if folder:
            followed.append(stack.enter_context(Log(folder / LOG)))
        tracking = None
        if folder and compiled.spec.track and (to_run or find_run(str(folder)).report is None):
            tracking = stack.enter_context(_tracking(compiled, folder, lambda text: followed[0].on_event(Note(text))))
            followed.append(tracking)
        execution = Execution(
            compiled,
            store,
            Everyone(*followed),
            place=fitted.place,
            wait=wait,
            selection=selection,
            workers=fitted.workers,
            estimates=fitted.price.steps,
        )
        told.append(lambda: _interrupted(execution.outcome.steps, len(found), forced=bool(selection.forced)))
        outcome = execution.attempt()
        if loaded.identity and selection.finishes:
            remember_use(compiled, store, loaded.identity)
        mixed = any(step.key in outcome.stale for step in compiled.steps.values())  # no report compares old with new
        report = _report(execution, store, folder) if folder and not mixed else None
        if tracking:
            _tell_reused(tracking, execution, store)
    if not quiet and outcome.stale:
        say(_stale(outcome))
    if report:
        show_text(json_text(report.json())) if json_ else show_report(report)
    elif mixed or not folder:
        made = made_json(compiled, everything, outcome)
        show_text(json_text(made)) if json_ else show_made(made)
    if outcome.failed and not quiet:
        say(_unfinished(outcome))
    outcome.check(reported=report is not None)


def _tell_reused(tracking: Tracking, execution: Execution, store: Store) -> None:
    for name, status in [*execution.outcome.steps.items()]:
        if status == "reuse":
            step = execution.plan.steps[name]
            tracking.log(name, execution.read(partial(_measured, execution, store, step)))


def _measured(execution: Execution, store: Store, step: Step) -> Metrics:
    return {} if step.name in execution.outcome.unmade else metrics_of(store.open(step.operation, step.key))


def _tracking(plan: Plan, folder: Path, note: Callable[[str], None]) -> Tracking:
    settings = dict(leaves(plan.spec.model_dump(mode="json")))
    choices = [(choice.name, choice.options()) for choice in plan.spec.track]
    return Tracking(choices, Followed(folder.name, folder, settings), note)


class Terminated(BaseException):
    """SIGTERM arrived."""


def terminate(number: int, frame: FrameType | None) -> None:
    """Handle SIGTERM: stop as Ctrl-C does, with another exit code."""
    raise Terminated


@contextmanager
def kept_on_interrupt(quiet: bool) -> Iterator[list[Callable[[], str]]]:
    """End with 130 or 143 on Ctrl-C or SIGTERM, telling the text that the first function in the list gives."""
    told: list[Callable[[], str]] = []
    try:
        yield told
    except (KeyboardInterrupt, Terminated) as reason:
        if not quiet:
            say(told[0]() if told else "stopped before anything ran")
        raise SystemExit(130 if isinstance(reason, KeyboardInterrupt) else 143) from None


def _report(execution: Execution, store: Store, folder: Path) -> Report | None:
    """Save the report of the finished steps; return None without any network to report."""
    plan, outcome = execution.plan, execution.outcome

    def finished() -> Finished:
        return Finished.of(plan, store, outcome.unmade)

    if not can_report(finished()):
        return None
    emitted = execution.read(lambda: copy_emitted(finished(), folder))
    scorer = execution.read(lambda: copy_scorer(finished(), folder))
    report = execution.read(
        lambda: build_report(
            finished(),
            run=str(folder),
            steps={status: outcome.count(status) for status in ("run", "reuse", "resume")},
            seconds=outcome.seconds,
            emitted=emitted,
            scorer=scorer,
            failures=[Failure(**failure) for failure in outcome.failures()],
        )
    )
    changes = outcome.failed or outcome.count("reuse") < len(outcome.steps)
    if changes or find_run(str(folder)).report is None:
        execution.read(lambda: save_metrics(folder, finished()))
        save_report(folder, report)  # a call that ran nothing leaves the report of the one that did
    return report


def _unfinished(outcome: Outcome) -> str:
    failed, skipped = len(outcome.failed), len(outcome.skipped)
    return (
        f"{failed} step{'s' * (failed > 1)} failed, {skipped} that depend on "
        f"{'them are' if failed > 1 else 'it are'} skipped: the same command runs these alone"
    )


def _stale(outcome: Outcome) -> str:
    name, *others = outcome.stale.values()
    told = f"`{name}` and {len(others)} more were" if others else f"`{name}` was"
    return (
        f"warning: {told} made from bytes that are replaced now, and left as they are\n"
        f"hint: `autosparse run SPEC --force {shlex.quote(outcome.changed[0])}`, for each spec, makes them again"
    )


def _interrupted(finished: Mapping[str, str], total: int, *, forced: bool) -> str:
    made = sum(status != "reuse" for status in finished.values())
    goes_on = "makes the forced steps once more and goes on" if forced else "resumes with the next step"
    return (
        f"stopped: {len(finished)} of {total} steps are kept ({made} made by this call)\n"
        f"hint: the same command {goes_on}"
    )
