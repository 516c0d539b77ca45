"""Runs in Python: a spec compiled, executed and reported by one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from autosparse.api.caller import default_settings, warn
from autosparse.api.runs.execution import SelectedPlan, open_run, run_steps, select_plan
from autosparse.api.runs.plan import Plan
from autosparse.api.runs.prepare import Say, SpecSource, fit_source
from autosparse.api.runs.report import Report
from autosparse.backends import Event, Observer
from autosparse.borders import expand
from autosparse.errors import StepError, UsageError
from autosparse.execute import Everyone
from autosparse.report.finished import Finished
from autosparse.spec.overrides import BudgetOption
from autosparse.store import Store
from autosparse.user_code import refuse_while_importing

Progress = bool | Callable[[Event], None] | None
"""Progress of a run: shown, hidden, sent to a function, or None: shown in a notebook and on a terminal."""


def run(
    spec: SpecSource | Plan,
    *,
    budget: BudgetOption | Sequence[BudgetOption] | None = None,
    overrides: Mapping[str, Any] | Sequence[str] | None = None,
    progress: Progress = None,
    out: str | os.PathLike[str] | None = None,
) -> Report:
    """Compile a spec, run every step that is not in the cache, and return the report: `autosparse run` in Python.

    Cache, keys and run folder are those of the command line: what one has computed the other reuses. Ctrl-C and errors
    lose no finished step; the same call resumes. Torch's number of threads, determinism settings and random state are
    restored afterwards.

    Args:
        spec: Path of a YAML file or name of a bundled spec, YAML text, plain data, a `Spec`, or the result of `plan`
            or `load_spec`. A str with a line break or `: ` is text.
        budget: One or several budgets that replace the spec's, such as 0.99, `100x`, `{"parameters": "120k"}`
            or `{"macs": "30%"}`.
        overrides: Values to replace: path of an option -> value, as in `{"training.epochs": 5}`.
        progress: True shows progress, False hides it, and a function receives every event; by default shown in a
            notebook and on a terminal.
        out: Run folder, instead of `runs/NAME-N`.

    Returns:
        The report, with the masks and networks behind it.

    Raises:
        UsageError: If a file cannot be read, or `out` holds something else.
        SpecError: If the spec is invalid, with every problem.
        FitError: If the plan does not fit `target`.
        MissingRequirement: If data, a library, a device or room on the disk is missing.
        StepError: If a step failed; all other steps finish and the run folder has their report.

    Examples:
        >>> spec = {"model": "lenet", "dataset": "digits", "method": "magnitude", "controls": [], "emit": []}
        >>> report = run(spec, budget=0.9, overrides={"training.epochs": 1, "compare": []}, progress=False)
        >>> [(result["method"], result["sparsity"]) for result in report.results]
        [('magnitude', 0.9)]
        >>> report.masks().sparsity
        0.9
        >>> import torch
        >>> report.model()(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    refuse_while_importing("autosparse.run")
    store, folder = Store.default(), None if out is None else expand(os.fspath(_path_like(out)))
    shown = _is_shown(progress)
    with default_settings():
        source = spec.spec if isinstance(spec, Plan) else spec
        loaded, fitted, _ = fit_source(source, budget, overrides, store, _speaker(shown), folder=folder)
        selected = select_plan(loaded, fitted, store, out=folder)
        run_folder = open_run(selected, folder)
        with _observer(progress, selected, shown) as observer:
            outcome, data = run_steps(selected, store, run_folder, observer)
    outcome.check(reported=data is not None)
    if data is None:
        raise StepError("no step of the run left a result to report")
    return Report(data, Finished.of(fitted.plan, store, outcome.unmade))


def _path_like(out: Any) -> str | os.PathLike[str]:
    if isinstance(out, str | os.PathLike):
        return out
    raise UsageError(f"`out` must be a path but is {type(out).__name__}", 'such as "runs/first"')


def _is_shown(progress: Progress) -> bool:
    if isinstance(progress, bool):
        return progress
    if progress is not None and not callable(progress):
        message = f"`progress` must be True, False or a function of an event but is {type(progress).__name__}"
        raise UsageError(message, "leave it out to show progress in a notebook and on a terminal")
    from autosparse.console.notebook import has_display

    return progress is None and has_display()


def _speaker(shown: bool) -> Say:
    # Warnings become Python warnings at the line of the caller; notes are part of the progress.
    def say(text: str) -> None:
        kind, _, message = text.partition(": ")
        if kind == "warning":
            warn(message)
        elif shown:
            from autosparse.console.notebook import show_note

            show_note(text)

    return say


@dataclass(frozen=True)
class _Sent:
    """Observer that passes events to a function."""

    receive: Callable[[Event], None]

    def on_event(self, event: Event) -> None:
        self.receive(event)


@contextmanager
def _observer(progress: Progress, selected: SelectedPlan, shown: bool) -> Iterator[Observer]:
    if callable(progress):
        yield _Sent(progress)
    elif not shown:
        yield Everyone()
    else:
        from autosparse.console.notebook import show_progress

        with show_progress(replace(selected.fitted, statuses=selected.selection.statuses)) as observer:
            yield observer
