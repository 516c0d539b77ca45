"""The commands `study` and `compare`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import typer

from autosparse.cli.app import (
    BudgetOption,
    JsonOption,
    QuietOption,
    SetOption,
    SpecArgument,
    app,
    fit_loaded,
    json_text,
    load,
    say,
)
from autosparse.cli.completion import run_names
from autosparse.cli.run import kept_on_interrupt
from autosparse.console import follow, in_words, show_compared, show_study, show_table, show_text
from autosparse.cost import Fitted
from autosparse.errors import AutosparseError, SpecError, StepError, UsageError
from autosparse.execute import Execution, Note, Outcome
from autosparse.plan import Plan, statuses
from autosparse.report import (
    Failure,
    Finished,
    Level,
    Report,
    Run,
    build_report,
    compare_results,
    compare_settings,
    find_run,
    study_json,
)
from autosparse.spec import LoadedSpec, parse_list
from autosparse.store import Store, open_index
from autosparse.text import seconds


@app.command()
def compare(
    run: Annotated[
        list[str],
        typer.Argument(metavar="RUN RUN...", help="Runs' folders or names, two or more.", autocompletion=run_names),
    ],
    json_: JsonOption = False,
) -> None:
    """Tell what differed in the specs of runs, field by field, and what in their results, with significance."""

    if len(run) < 2:
        raise UsageError("`compare` takes two runs or more", "run `autosparse runs` to see those of this directory")
    found = [find_run(named) for named in run]
    reports = [_report_of(one) for one in found]
    settings, rows = compare_settings([_spec(one) for one in found]), compare_results(reports)
    names = [one.folder.name if len({o.folder.name for o in found}) == len(found) else str(one.folder) for one in found]
    if json_:
        told: dict[str, Any] = {
            "runs": [str(one.folder) for one in found],
            "settings": [asdict(row) for row in settings],
            "results": [asdict(row) for row in rows],
            "cost": [dict(report.cost) for report in reports],
        }
        show_text(json_text({"schema_version": 1, **told}))
    else:
        show_compared(names, settings, rows, reports)


def _report_of(run: Run) -> Report:
    if run.report is None:
        raise UsageError(f"run {run.folder} cannot be compared: {run.problem}", "the command that began it mends that")
    return run.report


def _spec(run: Run) -> dict[str, Any]:
    try:
        resolved: dict[str, Any] = json.loads((run.folder / "resolved.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UsageError(f"run {run.folder} does not say what it ran", "run its spec again") from None
    return resolved


_ALONE = ("compare=[]", "controls=[]", "emit=[]", "sanity=null")
"""What a study leaves out of the spec: it is about the method."""


@dataclass(frozen=True)
class _Variant:
    factor: str
    value: Any
    fitted: Fitted
    base: bool = False


@app.command()
def study(
    spec: SpecArgument = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH=A,B", help="Values that one path of the spec takes; repeatable, adds to `study`."),
    ] = None,
    budget: BudgetOption = None,
    set_: SetOption = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what there is to run, and run nothing.")] = False,
    test: Annotated[
        bool, typer.Option("--test", help="Show test accuracy: for what is reported, not for what is chosen.")
    ] = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run the spec's method with one value after another changed, and tell what each does to its accuracy.

    The values are those of the spec's section `study` and of `--vary`. Everything that does not depend on the changed
    value is shared; a study that was stopped goes on where it was, and one that is finished prints its table at once.
    """
    store = Store.default()
    variants = _variants(spec, vary or (), budget, [*(set_ or ()), *_ALONE], store, quiet=quiet)
    name = variants[0].fitted.plan.name
    for variant in variants:
        if variant.fitted.problem:
            raise variant.fitted.problem
    if plan:
        _show_plan(variants, json_=json_)
        return
    if not quiet:
        steps, time = _left(variants)
        say(f"{len(variants)} variants, {steps} steps to run, about {seconds(time)}" if steps else "nothing to run")
    levels: list[Level] = []
    failed: dict[str, AutosparseError] = {}
    problems: list[tuple[str, str | None]] = []
    with kept_on_interrupt(quiet) as text:
        text.append(lambda: f"stopped after {len(levels)} of {len(variants)} variants\nhint: the same command goes on")
        for variant in variants:
            level, outcome = _level(variant, store, failed, test=test, quiet=quiet)
            levels.append(level)
            for (step, error), (message, hint) in zip(outcome.failed.items(), outcome.problems(), strict=True):
                if (key := variant.fitted.plan.steps[step].key) not in failed:
                    failed[key] = error
                    problems.append((f"{variant.factor} {in_words(variant.value)}: {message}", hint))
    split = "test" if test else "validation"
    if json_:
        show_text(json_text({"spec": name, **study_json(levels, split)}))
    else:
        show_study(name, variants[0].fitted.plan.spec.method.name, levels, split)
    if failed:
        raise StepError.of(problems) from ExceptionGroup("steps failed", [*failed.values()])


def _variants(
    name: str | None,
    vary: Sequence[str],
    budget: list[str] | None,
    overrides: list[str],
    store: Store,
    *,
    quiet: bool,
) -> list[_Variant]:
    index = open_index(store)
    loaded = load(name, store, budget, overrides, quiet=quiet)
    factors: dict[str, Sequence[Any]] = dict(loaded.spec.study)
    given: dict[str, str] = {}
    for text in vary:
        path, equals, listed = text.partition("=")
        if not equals or not path:
            raise UsageError(f"`--vary {text}` must be `path.to.key=value,value`", "such as `--vary irp.rounds=4,8`")
        factors[path], given[path] = parse_list(listed, f"--vary {text}"), f"--vary {text}"
    if not factors:
        raise UsageError(
            "there is nothing to vary", "such as `--vary irp.rounds=4,8`, or a section `study` in the spec"
        )
    # All of them are read before the first is priced: what is wrong is told at once.
    changed = {
        path: [_changed(loaded, store, budget, overrides, f"{path}={json.dumps(value)}", given) for value in values]
        for path, values in factors.items()
    }
    base = fit_loaded(loaded, store, index, quiet=quiet)
    variants: list[_Variant] = []
    for path, values in factors.items():
        fitted = [fit_loaded(each, store, index, quiet=True) for each in changed[path]]
        own = [_Variant(path, value, each) for value, each in zip(values, fitted, strict=True)]
        same = [number for number, variant in enumerate(own) if _keys(variant.fitted) == _keys(base)]
        if same:
            own[same[0]] = replace(own[same[0]], base=True)
        else:
            own.insert(0, _Variant(path, _value(base, loaded, path), base, base=True))
        variants += own
    return variants


def _changed(
    loaded: LoadedSpec,
    store: Store,
    budget: list[str] | None,
    overrides: list[str],
    override: str,
    given: Mapping[str, str],
) -> LoadedSpec:
    try:
        return load(str(loaded.path), store, budget, [*overrides, override], quiet=True, remember=False)
    except SpecError as error:  # told as it was given
        written = given.get(override.partition("=")[0], f"--set {override}")
        told = [(text.replace(f"--set {override}", written), hint) for text, hint in error.problems]
        raise SpecError.of(told) from None


def _keys(fitted: Fitted) -> set[str]:
    return {step.key for step in fitted.plan.steps.values()}


def _value(fitted: Fitted, loaded: LoadedSpec, path: str) -> Any:
    # What was chosen for the plan, or as it is written where a plan has something else in its place.
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


def _left(variants: Sequence[_Variant]) -> tuple[int, float]:
    # What several variants need is run once.
    times: dict[str, float] = {}
    for variant in variants:
        times |= _to_run(variant)
    return len(times), sum(times.values())


def _to_run(variant: _Variant) -> dict[str, float]:
    fitted = variant.fitted
    return {
        fitted.plan.steps[name].key: fitted.price.steps[name].seconds if name in fitted.price.steps else 0.0
        for name, status in fitted.found.items()
        if status.status != "reuse"
    }


def _show_plan(variants: Sequence[_Variant], *, json_: bool) -> None:
    seen: set[str] = set()
    rows = []
    for variant in variants:
        own = _to_run(variant)
        new = {key: time for key, time in own.items() if key not in seen}
        seen |= own.keys()
        rows.append((variant, len(variant.fitted.plan.steps), len(new), sum(new.values())))
    if json_:
        listed = [
            {"factor": v.factor, "value": v.value, "base": v.base, "steps": steps, "run": new, "seconds": time}
            for v, steps, new, time in rows
        ]
        show_text(json_text({"schema_version": 1, "variants": listed}))
        return
    show_table(
        ["factor", "value", "steps", "to run", "time"],
        [
            [v.factor, f"{in_words(v.value)}{' (spec)' if v.base else ''}", steps, new, seconds(time) if new else ""]
            for v, steps, new, time in rows
        ],
    )
    steps, time = _left(variants)
    show_text(f"{len(variants)} variants, {steps} steps to run, about {seconds(time)}")


def _level(
    variant: _Variant, store: Store, failed: Mapping[str, AutosparseError], *, test: bool, quiet: bool
) -> tuple[Level, Outcome]:
    """Run a variant; `failed` are errors of steps that other variants share, by key: they are not run again."""
    compiled = variant.fitted.plan
    fitted = replace(variant.fitted, found=statuses(compiled, store))
    with follow(fitted, quiet=quiet) as observer:
        execution = Execution(compiled, store, observer, place=fitted.place, workers=fitted.workers)
        outcome = execution.outcome
        _skip_failed(compiled, store, outcome, failed)
        if not quiet and any(status.status != "reuse" for status in fitted.found.values()):
            observer.on_event(Note(f"{variant.factor} {in_words(variant.value)}"))
        execution.attempt()
        report = execution.read(lambda: _report(Finished.of(compiled, store, outcome.unmade), outcome))
    accuracies: dict[str, dict[int, float]] = {}
    for result in report.results:
        accuracy = result.test_accuracy if test else result.validation_accuracy
        accuracies.setdefault(result.label, {})[result.seed] = accuracy
    lost: dict[str, dict[int, str]] = {}
    for one in report.missing:
        lost.setdefault(one.budget, {})[one.seed] = one.status
    tuning, scorer = compiled.spec.tuning, report.scorer
    measured = f"{tuning.objective} on held-out {tuning.split}"
    if scorer.get("progressive"):
        measured += ", of single rounds"
    if scorer.get("proxy") is not None:
        measured += f" with a proxy {compiled.spec.tuning.proxy}"
    objective = scorer.get("value")
    return Level(variant.factor, variant.value, variant.base, accuracies, objective, measured, lost), outcome


def _report(finished: Finished, outcome: Outcome) -> Report:
    failures = [Failure(**failure) for failure in outcome.failures()]
    return build_report(finished, run="", steps={}, seconds=0.0, emitted=[], failures=failures)


def _skip_failed(plan: Plan, store: Store, outcome: Outcome, failed: Mapping[str, AutosparseError]) -> None:
    steps = [*plan.steps.values()]
    for step in steps:
        if step.key in failed and step.name not in outcome.unmade:
            error = copy(failed[step.key])
            error.step = step.name
            outcome.fail(error, steps, lambda other: store.has(other.operation, other.key))
