"""A plan's execution with its run folder, logs, trackers and report, for commands and the Python API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from autosparse.backends import Note, Observer
from autosparse.cost.disk import check_disk
from autosparse.cost.fit import fit_steps
from autosparse.cost.fitted import Fitted, plan_json, remember_use
from autosparse.errors import UsageError
from autosparse.execute import Everyone, Execution, Log, Outcome, Tracking
from autosparse.planning.status import Selection, select_steps, to_run
from autosparse.report.build import build_report, can_report
from autosparse.report.compare import leaves
from autosparse.report.finished import Finished
from autosparse.report.folder import LOG, find_run, open_folder, running, save_metrics, save_report, tag_run
from autosparse.report.schema import Report
from autosparse.spec import LoadedSpec
from autosparse.steps import Metrics, metrics_of
from autosparse.store import Store
from autosparse.trackers import Followed


@dataclass(frozen=True)
class SelectedPlan:
    """Plan that fits the target, with the steps selected for a run."""

    loaded: LoadedSpec
    fitted: Fitted
    selection: Selection

    @property
    def to_run(self) -> int:
        """Number of steps that are not in the cache."""
        return len(to_run(self.selection.statuses))


def select_plan(
    loaded: LoadedSpec,
    fitted: Fitted,
    store: Store,
    *,
    only: Sequence[str] = (),
    force: Sequence[str] = (),
    out: Path | None = None,
    tagged: bool = False,
) -> SelectedPlan:
    """Return the steps of a plan to run; `out` is the run folder and `tagged` whether the run gets tags.

    Raises UsageError for steps that leave a report unfinished that has a folder or tags, FitError for too large a plan.
    """
    selection = select_steps(fitted.plan, fitted.statuses, only=only, force=force)
    if (out or tagged) and not selection.finishes:
        where = f"put into {out}" if out else "tag"
        raise UsageError(f"`--only` leaves the plan unfinished: there is no report to {where}")
    some = fit_steps(fitted, selection.statuses)
    if fitted.problem and not some.problem:
        some = check_disk(some, store, out or Path())
    if some.problem:
        raise some.problem
    return SelectedPlan(loaded, some, selection)


def open_run(selected: SelectedPlan, out: Path | None, tags: Sequence[str] = ()) -> Path | None:
    """Return the run folder; None for a run that leaves the plan unfinished."""
    if not selected.selection.finishes:
        return None
    plan, spec = selected.fitted.plan, selected.loaded.path
    resolved = plan.spec.model_dump(mode="json")
    described = plan_json(selected.fitted)
    folder = open_folder(plan.name, described, digest=plan.digest, spec=spec, resolved=resolved, out=out)
    if tags:
        tag_run(find_run(str(folder)), tags)
    return folder


def run_steps(
    selected: SelectedPlan,
    store: Store,
    folder: Path | None,
    observer: Observer,
    *,
    wait: bool = True,
    begun: Callable[[Execution], None] = lambda execution: None,
) -> tuple[Outcome, Report | None]:
    """Run the selected steps; save and return the report of a finished plan without stale artifacts.

    `begun` receives the execution before its first step, whose `outcome` is up to date if the run is interrupted.
    """
    fitted, selection = selected.fitted, selected.selection
    with ExitStack() as stack:
        if folder:
            stack.enter_context(running(folder))
        log = [stack.enter_context(Log(folder / LOG))] if folder else []
        tracking = _tracking(selected, folder, observer)
        execution = Execution(
            fitted.plan,
            store,
            Everyone(observer, *log, *([stack.enter_context(tracking)] if tracking else [])),
            placement=fitted.placement,
            wait=wait,
            selection=selection,
            workers=fitted.workers,
            estimates=fitted.price.steps,
        )
        begun(execution)
        outcome = execution.attempt()
        if selected.loaded.identity and selection.finishes:
            remember_use(fitted.plan, store, selected.loaded.identity)
        report = _report(execution, store, folder) if folder and not is_mixed(selected, outcome) else None
        if tracking:
            _log_reused(tracking, execution, store)
    return outcome, report


def is_mixed(selected: SelectedPlan, outcome: Outcome) -> bool:
    """Return whether a plan has results of replaced bytes next to results of new ones: no report compares them."""
    return any(step.key in outcome.stale for step in selected.fitted.plan.steps.values())


def _tracking(selected: SelectedPlan, folder: Path | None, observer: Observer) -> Tracking | None:
    # Trackers log each run once: a call that runs nothing adds nothing to a reported run.
    spec = selected.fitted.plan.spec
    if not folder or not spec.track or (not selected.to_run and find_run(str(folder)).report is not None):
        return None
    settings = dict(leaves(spec.model_dump(mode="json")))
    choices = [(choice.name, choice.options()) for choice in spec.track]
    return Tracking(choices, Followed(folder.name, folder, settings), lambda text: observer.on_event(Note(text)))


def _log_reused(tracking: Tracking, execution: Execution, store: Store) -> None:
    def measured() -> dict[str, Metrics]:
        finished = Finished.of(execution.plan, store, execution.outcome.unmade)
        reused = (name for name, status in execution.outcome.steps.items() if status == "reuse")
        return {name: metrics_of(finished.open(name)) for name in reused if finished.has(name)}

    for name, metrics in execution.read(measured).items():
        tracking.log(name, metrics)


def _report(execution: Execution, store: Store, folder: Path) -> Report | None:
    # Save the report of the finished steps; return None without a network to report.
    outcome = execution.outcome

    def finished() -> Finished:
        return Finished.of(execution.plan, store, outcome.unmade)

    if not can_report(finished()):
        return None
    report = execution.read(lambda: build_report(finished(), outcome, folder))
    changes = outcome.failed or outcome.count("reuse") < len(outcome.steps)
    if changes or find_run(str(folder)).report is None:
        execution.read(lambda: save_metrics(folder, finished()))
        save_report(folder, report)  # a call that ran nothing keeps the existing report
    return report
