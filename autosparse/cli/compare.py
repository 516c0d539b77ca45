"""Commands `compare` and `study`: runs, and values of a spec, side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any

import typer

from autosparse.cli import options
from autosparse.cli.app import SpecRequest, app, exit_on_interrupt, fit_loaded, load, say, show_json
from autosparse.cli.help import Command, examples
from autosparse.console.compare import in_words, show_compared, show_study
from autosparse.console.format import show_table, show_text
from autosparse.console.progress import follow
from autosparse.cost.fitted import Fitted
from autosparse.errors import AutosparseError, Problem, SpecError, UsageError
from autosparse.execute import Execution, Note, Outcome
from autosparse.execute.outcome import kind_of
from autosparse.planning.model import Plan
from autosparse.planning.status import statuses
from autosparse.report.build import build_report
from autosparse.report.cells import TRAINED, by_cell, missing_by_cell
from autosparse.report.compare import Level, alone, compare_results, compare_settings, study_json
from autosparse.report.finished import Finished
from autosparse.report.folder import find_run, report_of, resolved_of
from autosparse.report.schema import Report
from autosparse.spec import LoadedSpec, load_spec, parse_list
from autosparse.store import Store, open_index
from autosparse.text import plural, seconds


@app.command(cls=Command, epilog=examples("compare digits-1 digits-2"))
def compare(
    run: Annotated[list[str], options.runs_argument("Runs' folders or names, two or more.", "RUN RUN...")],
    json_: options.Json = False,
) -> None:
    """Compare the specs of runs field by field, and their results with significance."""
    if len(run) < 2:
        raise UsageError("`compare` takes two runs or more", "run `autosparse runs` to see those of this directory")
    chosen = [find_run(name) for name in run]
    reports = [report_of(one, "compared") for one in chosen]
    settings, rows = compare_settings([resolved_of(one) for one in chosen]), compare_results(reports)
    are_distinct = len({one.folder.name for one in chosen}) == len(chosen)
    names = [one.folder.name if are_distinct else str(one.folder) for one in chosen]
    if json_:
        show_json(
            {
                "schema_version": 1,
                "runs": [str(one.folder) for one in chosen],
                "settings": [asdict(row) for row in settings],
                "results": [asdict(row) for row in rows],
                "left_out": {budget: names[position] for budget, position in alone(reports).items()},
                "cost": [dict(report.cost) for report in reports],
            }
        )
    else:
        show_compared(names, settings, rows, reports)


_ALONE = ("compare=[]", "controls=[]", "emit=[]", "sanity=null")
"""Settings that a study removes from the spec, because it compares the method only."""


@dataclass(frozen=True)
class _Variant:
    factor: str
    value: Any
    fitted: Fitted
    base: bool = False


@app.command(
    cls=Command,
    epilog=examples("study my.yaml --vary irp.rounds=4,8,16", "study my.yaml --vary method=erk,snip --plan"),
)
def study(
    spec: options.Spec = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH=A,B", help="Values for one path of the spec; repeatable, adds to its section `study`."
        ),
    ] = None,
    budget: options.Budget = None,
    set_: options.Set = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Show the variants and their cost, without running anything.")
    ] = False,
    test: Annotated[
        bool, typer.Option("--test", help="Show test accuracy instead of validation accuracy; do not choose by it.")
    ] = False,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare values of one option at a time by the accuracy of the method.

    The values are those of the spec's section `study` and of `--vary`. Variants share every step that does not depend
    on the changed value. A stopped study resumes; a finished one prints its table at once.
    """
    request = SpecRequest(spec, budget, [*(set_ or ()), *_ALONE], quiet)
    store = Store.default()
    variants = _variants(request, vary or (), store)
    for variant in variants:
        if variant.fitted.problem:
            raise variant.fitted.problem
    if plan:
        _show_plan(variants, json_=json_)
        return
    if not quiet:
        times = {key: time for variant in variants for key, time in _to_run(variant).items()}
        say(_left(variants, times) if times else "nothing to run")
    failures = _Failures()
    split, base = "test" if test else "validation", variants[0].fitted.plan
    levels = _run(variants, store, failures, split, quiet=quiet)
    if json_:
        show_json({"spec": base.name, **study_json(levels, split)})
    else:
        show_study(base.name, base.spec.method.name, levels, split)
    failures.check()


@dataclass
class _Failures:
    """Errors of steps by key, shared by all variants: a failed step is not run again."""

    errors: dict[str, AutosparseError] = field(default_factory=dict)
    problems: list[tuple[str, str | None]] = field(default_factory=list)

    def add(self, variant: _Variant, outcome: Outcome) -> None:
        """Add the failures of a variant that no other variant had."""
        for (step, error), (message, hint) in zip(outcome.failed.items(), outcome.problems(), strict=True):
            if (key := variant.fitted.plan.steps[step].key) not in self.errors:
                self.errors[key] = error
                self.problems.append((f"{variant.factor} {in_words(variant.value)}: {message}", hint))

    def skip(self, plan: Plan, store: Store, outcome: Outcome) -> None:
        """Record the steps of a plan that failed in another variant, and their dependents."""
        steps = [*plan.steps.values()]
        for step in steps:
            if step.key in self.errors and step.name not in outcome.unmade:
                error = copy(self.errors[step.key])
                error.step = step.name
                outcome.fail(error, steps, lambda other: store.has(other.operation, other.key))

    def check(self) -> None:
        """Raise one error for all failures, if any."""
        if self.errors:
            kind = kind_of(self.errors.values())
            raise kind.of(self.problems) from ExceptionGroup("steps failed", [*self.errors.values()])


def _run(variants: Sequence[_Variant], store: Store, failures: _Failures, split: str, *, quiet: bool) -> list[Level]:
    levels = list[Level]()

    def stopped() -> str:
        return f"stopped after {len(levels)} of {len(variants)} variants\nhint: the same command goes on"

    with exit_on_interrupt(stopped, quiet=quiet):
        for variant in variants:
            outcome, report = _finish(variant, store, failures, quiet=quiet)
            failures.add(variant, outcome)
            levels.append(_level(variant, report, split))
    return levels


def _variants(request: SpecRequest, vary: Sequence[str], store: Store) -> list[_Variant]:
    """Return the variants of every factor, and the spec itself, in the order of their runs."""
    index = open_index(store)
    loaded = load(request, store)
    # Read all variants before the first is priced, so that errors come first.
    factors, changed = _read(loaded, request, vary)
    base = fit_loaded(loaded, store, index, quiet=request.quiet)
    variants: list[_Variant] = []
    for path, values in factors.items():
        fitted = [fit_loaded(each, store, index, quiet=True) for each in changed[path]]
        levels = [_Variant(path, value, each) for value, each in zip(values, fitted, strict=True)]
        same = [number for number, variant in enumerate(levels) if _keys(variant.fitted) == _keys(base)]
        if same:
            levels[same[0]] = replace(levels[same[0]], base=True)
        else:
            levels.insert(0, _Variant(path, _value(base, loaded, path), base, base=True))
        variants += levels
    return variants


def _read(
    loaded: LoadedSpec, request: SpecRequest, vary: Sequence[str]
) -> tuple[dict[str, Sequence[Any]], dict[str, list[LoadedSpec]]]:
    """Return the values of every factor, and their specs. Raises SpecError with every mistake in them."""
    factors: dict[str, Sequence[Any]] = dict(loaded.spec.study)
    given: dict[str, str] = {}  # path -> `--vary` as written
    errors: list[Problem] = []
    for text in vary:
        try:
            path, values = _varied(text)
        except SpecError as error:
            errors += error.errors
        except UsageError as error:
            errors.append(Problem(error.message, error.hint))
        else:
            factors[path], given[path] = values, f"--vary {text}"
    if not factors and not errors:
        raise UsageError(
            "there is nothing to vary", "such as `--vary irp.rounds=4,8`, or a section `study` in the spec"
        )
    changed: dict[str, list[LoadedSpec]] = {}
    for path, values in factors.items():
        changed[path] = []
        for value in values:
            try:
                changed[path].append(_changed(loaded, request, path, value, given.get(path)))
            except SpecError as error:
                errors += error.errors
    if errors:
        raise SpecError.listing([*dict.fromkeys(errors)])
    return factors, changed


def _varied(text: str) -> tuple[str, Sequence[Any]]:
    path, equals, values = text.partition("=")
    if not equals or not path:
        raise UsageError(f"`--vary {text}` must be `path.to.key=value,value`", "such as `--vary irp.rounds=4,8`")
    return path, parse_list(values, f"--vary {text}")


def _changed(loaded: LoadedSpec, request: SpecRequest, path: str, value: Any, option: str | None) -> LoadedSpec:
    override = f"{path}={json.dumps(value)}"
    assert loaded.path is not None
    try:
        # Its section `study` has been checked: a second time for every value would take long.
        overrides = [*(request.overrides or ()), "study={}", override]
        return load_spec(loaded.path, overrides=overrides, budget=request.budget or ())
    except SpecError as error:  # its message names the option as written
        option = option or f"--set {override}"
        here = f"--set {override}"
        errors = [replace(one, file=option) if one.file == here else one for one in error.errors]
        raise SpecError.listing(errors) from None


def _keys(fitted: Fitted) -> set[str]:
    return {step.key for step in fitted.plan.steps.values()}


def _value(fitted: Fitted, loaded: LoadedSpec, path: str) -> Any:
    # The value chosen for the plan, or the written one where the plan has replaced it.
    for spec in (fitted.plan.spec, loaded.spec):
        value: Any = spec.model_dump(mode="json")
        for key in path.split("."):
            above, value = value, value.get(key) if isinstance(value, Mapping) else None
            if value is None and isinstance(above, Mapping) and "name" in above:  # a choice without such an option
                value = above
                break
        if value is not None:
            break
    return value.get("name", value) if isinstance(value, Mapping) else value


def _to_run(variant: _Variant) -> dict[str, float]:
    # Key -> seconds: a step shared by several variants runs once.
    steps, priced = variant.fitted.plan.steps, variant.fitted.price.steps
    return {steps[name].key: priced[name].seconds if name in priced else 0.0 for name in variant.fitted.to_run}


def _show_plan(variants: Sequence[_Variant], *, json_: bool) -> None:
    times: dict[str, float] = {}  # of the steps of the variants so far
    rows = []
    for variant in variants:
        new = {key: time for key, time in _to_run(variant).items() if key not in times}
        times |= new
        rows.append((variant, len(variant.fitted.plan.steps), len(new), sum(new.values())))
    if json_:
        listed = [
            {"factor": v.factor, "value": v.value, "base": v.base, "steps": steps, "run": new, "seconds": time}
            for v, steps, new, time in rows
        ]
        show_json({"schema_version": 1, "variants": listed})
        return
    show_table(
        ["factor", "value", "steps", "to run", "time"],
        [
            [v.factor, f"{in_words(v.value)}{' (spec)' if v.base else ''}", steps, new, seconds(time) if new else ""]
            for v, steps, new, time in rows
        ],
    )
    show_text(_left(variants, times))


def _left(variants: Sequence[_Variant], times: Mapping[str, float]) -> str:
    return (
        f"{plural(len(variants), 'variant')}, {plural(len(times), 'step')} to run, about {seconds(sum(times.values()))}"
    )


def _finish(variant: _Variant, store: Store, failures: _Failures, *, quiet: bool) -> tuple[Outcome, Report]:
    """Run a variant without the steps that failed in another, and return its report."""
    compiled = variant.fitted.plan
    fitted = replace(variant.fitted, statuses=statuses(compiled, store))
    with follow(fitted, quiet=quiet) as observer:
        execution = Execution(compiled, store, observer, placement=fitted.placement, workers=fitted.workers)
        outcome = execution.outcome
        failures.skip(compiled, store, outcome)
        if not quiet and fitted.to_run:
            observer.on_event(Note(f"{variant.factor} {in_words(variant.value)}"))
        execution.attempt()
        return outcome, execution.read(lambda: build_report(Finished.of(compiled, store, outcome.unmade), outcome))


def _level(variant: _Variant, report: Report, split: str) -> Level:
    accuracies = {at: cell for (_, at), cell in by_cell(report.results, f"{split}_accuracy").items()}
    lost = {at: {one.seed: one.status for one in cell} for (_, at), cell in missing_by_cell(report.missing).items()}
    for result in report.results:
        if result.status != TRAINED:
            lost.setdefault(result.budget, {})[result.seed] = result.status
    tuning, scorer = variant.fitted.plan.spec.tuning, report.scorer
    measured = f"{tuning.objective} on held-out {tuning.split}"
    if scorer.get("progressive"):
        measured += ", of single rounds"
    if scorer.get("proxy") is not None:
        measured += f" with a proxy {tuning.proxy}"
    images = (report.test_images if split == "test" else report.validation_images) or 0
    return Level(variant.factor, variant.value, variant.base, accuracies, scorer.get("value"), measured, lost, images)
