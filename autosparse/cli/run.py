"""Commands `plan` and `run`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from autosparse.api.runs.execution import SelectedPlan, is_mixed, open_run, run_steps, select_plan
from autosparse.backends import this_machine
from autosparse.cli import options
from autosparse.cli.app import SpecRequest, app, exit_on_interrupt, prepare, say, show_json
from autosparse.cli.help import OUTPUT, STEPS, Command, examples
from autosparse.console.format import show_text
from autosparse.console.plan import show_chain, show_plan
from autosparse.console.progress import follow
from autosparse.console.report import show_made, show_report
from autosparse.console.scan import scanning, show_scan
from autosparse.cost.fitted import Fitted, missing_here, plan_json, shared
from autosparse.datasets.scan import Scan, scan_source
from autosparse.errors import MissingData, MissingRequirement, UsageError
from autosparse.execute import Execution, Outcome, made_json
from autosparse.planning.budgets import translations
from autosparse.planning.graph import draw_dot, draw_mermaid
from autosparse.planning.saved import save_plan
from autosparse.planning.status import (
    Selection,
    chain,
    excess_threads,
    explained,
    to_run,
)
from autosparse.report.folder import tags_of
from autosparse.report.schema import Report
from autosparse.store import Store
from autosparse.text import plural, shell_word


@app.command(cls=Command, epilog=examples("plan my.yaml", "plan my.yaml --budget 0.99 --explain tune"))
def plan(
    spec: options.SpecOrPlan = None,
    budget: options.Budget = None,
    set_: options.Set = None,
    steps: Annotated[bool, typer.Option("--steps", help="List every step.", rich_help_panel=STEPS)] = False,
    explain: Annotated[str | None, options.steps_option("Explain one step.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Save the plan in a file, for `autosparse run FILE`.", rich_help_panel=OUTPUT
        ),
    ] = None,
    detailed_exitcode: Annotated[
        bool,
        typer.Option(
            "--detailed-exitcode",
            help="Exit with code 0 if there is nothing to run, 2 if there is, 1 on any error.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    dot: Annotated[bool, typer.Option("--dot", help="Draw the steps for Graphviz.", rich_help_panel=STEPS)] = False,
    mermaid: Annotated[
        bool, typer.Option("--mermaid", help="Draw the steps for Mermaid, in Markdown.", rich_help_panel=STEPS)
    ] = False,
    scan: options.Scan = False,
    strict: options.Strict = False,
    refit: options.Refit = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show every step that a run would reuse, resume or run, with its reason and cost.

    `--scan` exits with code 5 if an image cannot be read, after it has listed all of them.
    """
    if explain and dot + mermaid:
        raise UsageError("`--explain` shows one step: `--dot` and `--mermaid` draw all")
    if scan and (explain or dot or mermaid):
        raise UsageError("`--scan` shows the datasets: it takes none of `--explain`, `--dot` and `--mermaid`")
    if json_ + dot + mermaid > 1:
        raise UsageError("`--json`, `--dot` and `--mermaid` exclude each other: stdout is one document")
    store = Store.default()
    loaded, fitted, index = prepare(SpecRequest(spec, budget, set_, quiet=quiet, refit=refit), store)
    sharing = shared(fitted.plan, store, index, fitted.price, loaded.identity)
    scans = _scan(fitted, quiet=quiet) if scan else {}
    if explain:
        _explain(fitted, explain, json_=json_)
    elif json_:
        show_json(plan_json(fitted, sharing, scans))
    elif dot or mermaid:
        show_text((draw_dot if dot else draw_mermaid)(fitted.plan, fitted.statuses))
    else:
        show_plan(fitted, translations(fitted.plan), every_step=steps, sharing=sharing)
        for name, one in scans.items():
            show_scan(name, one)
    absent = missing_here(fitted)
    if not quiet:
        _warn(fitted, [] if strict else absent)
    _check(fitted, scans, absent if strict else [])
    if out:
        save_plan(out, fitted.plan, fitted.statuses, loaded.relative, loaded.path)
        if not quiet:
            say(f"plan saved in {out}: `autosparse run {shell_word(out)}` runs it as it is")
    if detailed_exitcode and fitted.to_run:
        raise typer.Exit(2)


def _scan(fitted: Fitted, *, quiet: bool) -> dict[str, Scan]:
    """Return the scan of every dataset. Raises MissingData if one is missing."""
    scans: dict[str, Scan] = {}
    for name, source in fitted.plan.sources.items():
        if (absent := source.missing()) is not None:
            raise MissingData(*absent)
        with exit_on_interrupt(lambda: "scan stopped", quiet=quiet), scanning(name, quiet=quiet) as observe:
            scans[name] = scan_source(source, observe)
    return scans


def _check(fitted: Fitted, scans: Mapping[str, Scan], absent: Sequence[tuple[str, str]]) -> None:
    """Raise MissingData for broken images, FitError for a plan that does not fit, MissingRequirement for `absent`."""
    for one in scans.values():
        one.check()
    if fitted.problem:
        raise fitted.problem
    if absent:
        raise MissingRequirement.of(absent)


def _explain(fitted: Fitted, step: str, *, json_: bool) -> None:
    compiled, statuses = fitted.plan, fitted.statuses
    links = [explained(compiled, statuses, name) for name in chain(compiled, statuses, step)]
    if json_:
        show_json({"schema_version": 1, "chain": links})
    else:
        show_chain(links)


def _warn(fitted: Fitted, absent: Sequence[tuple[str, str]]) -> None:
    for problem, hint in [*absent, *excess_threads(fitted.plan, this_machine())]:
        say(f"warning: {problem}\nhint: {hint}")


@dataclass(frozen=True)
class RunRequest:
    """Plan to run, its selected steps, and the folder of its report."""

    spec: SpecRequest
    only: Sequence[str]
    force: Sequence[str]
    out: Path | None
    tags: tuple[str, ...]
    wait: bool
    json: bool


@app.command(cls=Command, epilog=examples("run my.yaml", "run my.yaml --set training.epochs=5 --tag short"))
def run(
    spec: options.SpecOrPlan = None,
    budget: options.Budget = None,
    set_: options.Set = None,
    only: Annotated[
        list[str] | None, options.steps_option("Run these steps and what they need; a name or `train/*`; repeatable.")
    ] = None,
    force: Annotated[list[str] | None, options.steps_option("Re-run these steps even if cached; repeatable.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Run folder, instead of runs/NAME-N.", rich_help_panel=OUTPUT),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TAG", help="Tag the run, for `autosparse runs --tag`; repeatable.", rich_help_panel=OUTPUT
        ),
    ] = None,
    refit: options.Refit = False,
    wait: Annotated[
        bool, typer.Option(help="Wait for a step that another process runs.", rich_help_panel=STEPS)
    ] = True,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Execute the plan of a spec, export pruned models, and print a report.

    A failed step skips its dependents: all other steps finish and are reported, with exit code 1.

    A plan saved by `plan --out` runs exactly as planned, or is refused with exit code 2 and the changes since.

    `--only` runs nothing else. Unless that finishes the plan, the new artifacts are listed in place of a report.

    A step re-run by `--force` replaces its cached artifact once it is complete. Identical bytes cause no further work.
    Different bytes re-run the dependents that this run reaches; all others, here and in other specs, are listed.
    """
    wanted = SpecRequest(spec, budget, set_, quiet=quiet, refit=refit, folder=out)
    request = RunRequest(wanted, only or (), force or (), out, tags_of(tag or ()), wait, json_)
    store = Store.default()
    selected = _select(request, store)
    folder = open_run(selected, request.out, request.tags)
    _announce(request, selected)
    outcome, report = _execute(request, selected, store, folder)
    _show(request, selected, outcome, report)
    outcome.check(reported=report is not None)


def _select(request: RunRequest, store: Store) -> SelectedPlan:
    """Return the plan and its selected steps. Raises UsageError for refused options, FitError for too large a plan."""
    loaded, fitted, _ = prepare(request.spec, store)
    if request.force and loaded.path is None:
        message = f"a saved plan is run as it is: {request.spec.name} takes no `--force`"
        raise UsageError(message, "force a step of its spec")
    return select_plan(
        loaded,
        fitted,
        store,
        only=request.only,
        force=request.force,
        out=request.out,
        tagged=bool(request.tags),
    )


def _announce(request: RunRequest, selected: SelectedPlan) -> None:
    if request.spec.quiet:
        return
    number, left = len(selected.selection.statuses), selected.to_run
    if not left:
        say(f"nothing to run: all {number} steps are in the cache")
        return
    say(f"{plural(left, 'step')} to run, {number - left} reused")
    for change in selected.fitted.adjustments:
        say(f"to fit {change.limit}: {change}")
    for note in selected.fitted.notes:
        say(f"note: {note}")


def _execute(
    request: RunRequest, selected: SelectedPlan, store: Store, folder: Path | None
) -> tuple[Outcome, Report | None]:
    """Run the steps with progress on stderr; save the report of a finished plan without stale artifacts."""
    begun: list[Execution] = []
    shown = replace(selected.fitted, statuses=selected.selection.statuses)
    quiet = request.spec.quiet
    with (
        exit_on_interrupt(lambda: _interrupted(begun, selected.selection), quiet=quiet),
        follow(shown, quiet=quiet) as progress,
    ):
        return run_steps(selected, store, folder, progress, wait=request.wait, begun=begun.append)


def _show(request: RunRequest, selected: SelectedPlan, outcome: Outcome, report: Report | None) -> None:
    if not request.spec.quiet and outcome.stale:
        say(_stale(outcome))
    if report:
        show_json(report.json()) if request.json else show_report(report)
    elif not selected.selection.finishes or is_mixed(selected, outcome):
        made = made_json(selected.fitted.plan, selected.fitted.statuses, outcome)
        show_json(made) if request.json else show_made(made)
    if outcome.failed and not request.spec.quiet:
        say(_unfinished(outcome))


def _unfinished(outcome: Outcome) -> str:
    failed, skipped = len(outcome.failed), len(outcome.skipped)
    return (
        f"{plural(failed, 'step')} failed, {skipped} that depend on "
        f"{'them are' if failed > 1 else 'it are'} skipped: the same command runs these alone"
    )


def _stale(outcome: Outcome) -> str:
    name, *others = outcome.stale.values()
    subject = f"`{name}` and {len(others)} more were" if others else f"`{name}` was"
    return (
        f"warning: {subject} made from bytes that are replaced now, and left as they are\n"
        f"hint: `autosparse run SPEC --force {shlex.quote(outcome.changed[0])}`, for each spec, rebuilds them"
    )


def _interrupted(begun: Sequence[Execution], selection: Selection) -> str:
    if not begun:
        return "stopped before anything ran"
    outcome = begun[0].outcome
    made = sum(status != "reuse" for status in outcome.steps.values())
    planned = plural(max(made, len(to_run(selection.statuses))), "step")
    goes_on = "makes the forced steps once more and goes on" if selection.forced else "resumes with the next step"
    return f"stopped after {made} of {planned}; finished steps are kept\nhint: the same command {goes_on}"
