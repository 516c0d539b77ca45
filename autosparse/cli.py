"""The command line: arguments in, calls that name the architecture, exit codes out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from autosparse import __version__
from autosparse.backends import backends, this_machine
from autosparse.console import notes, plain, show_table, show_text
from autosparse.core.allocation import allocations
from autosparse.core.criteria import criteria
from autosparse.core.features import feature_groups
from autosparse.core.presets import CONTROLS, PRESETS
from autosparse.core.schedule import schedules
from autosparse.core.scorers import scorers
from autosparse.core.selection import selections
from autosparse.datasets import datasets
from autosparse.errors import AutosparseError, SpecError, UsageError
from autosparse.exporters import exporters
from autosparse.models import models
from autosparse.plan import Plan, compile_plan, count, missing_data, plan_json, statuses
from autosparse.registry import suggestion
from autosparse.spec import (
    FILE,
    LoadedSpec,
    Spec,
    find_spec,
    load_spec,
    provenance,
    remember_spec,
    resolve,
    shipped,
)
from autosparse.store import Store

app = typer.Typer(
    name="autosparse",
    help="Plan and run the pruning of neural networks at initialization, from a YAML spec.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cache = typer.Typer(help="Look at the artifacts that specs share.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(cache, name="cache")

SpecArgument = Annotated[str | None, typer.Argument(metavar="[SPEC]", help="A spec file; without one, the last used.")]
BudgetOption = Annotated[
    list[str] | None, typer.Option("--budget", metavar="SPARSITY", help="Replace the spec's budget; repeatable.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Set a value of the spec; repeatable.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the result and errors.")]

_LISTS: dict[str, Any] = {
    registry.plural: registry
    for registry in (
        models, datasets, criteria, allocations, selections, schedules, scorers, feature_groups, exporters, backends,
    )
}  # fmt: skip
_KINDS = (*_LISTS, "presets", "controls", "specs", "templates")


@app.command()
def plan(
    spec: SpecArgument = None,
    budget: BudgetOption = None,
    set_: SetOption = None,
    steps: Annotated[bool, typer.Option("--steps", help="List every step.")] = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show what a run would do: every step, reused or run."""
    store = Store.default()
    loaded = _load(spec, store, budget, set_, quiet=quiet)
    compiled = _compile(loaded)
    found = statuses(compiled, store)
    if json_:
        show_text(_json(plan_json(compiled, found)))
    else:
        from autosparse.console import show_plan

        show_plan(compiled, found, every_step=steps)
    if not quiet:
        for problem, hint in missing_data(compiled, found):
            _say(f"warning: {problem}\nhint: {hint}")


@app.command()
def run(
    spec: SpecArgument = None,
    budget: BudgetOption = None,
    set_: SetOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="The run's folder, instead of runs/NAME-N.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait for a step that another process is making.")] = True,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run a plan: reuse what is there, make what is not, emit pruned models, report."""
    from autosparse.console import follow, show_report
    from autosparse.execute import Execution
    from autosparse.report import build_report, copy_emitted, open_folder, save_report

    store = Store.default()
    loaded = _load(spec, store, budget, set_, quiet=quiet)
    compiled = _compile(loaded)
    found = statuses(compiled, store)
    to_run = count(found)["run"]
    if not quiet and to_run == 0:
        _say(f"nothing to run: all {len(found)} steps are in the cache")
    elif not quiet:
        _say(f"{to_run} steps to run, {len(found) - to_run} reused")
    with follow(compiled, found, quiet=quiet) as observer, _kept_on_interrupt(quiet) as told:
        execution = Execution(compiled, store, observer, wait=wait)
        told.append(lambda: _interrupted(execution.outcome.steps, len(found)))
        folder = open_folder(
            compiled.name,
            plan_json(compiled, found),
            digest=compiled.digest,
            spec=loaded.path,
            resolved=compiled.spec.model_dump(mode="json"),
            out=out,
        )
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
        save_report(folder, report)
    if json_:
        show_text(_json(report.json()))
    else:
        show_report(report)


@app.command()
def report(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run's folder or name.")] = None,
    json_: JsonOption = False,
) -> None:
    """Show a run's report again; without RUN, the latest one's."""
    from autosparse.console import show_report
    from autosparse.report import find_run

    found = find_run(run)
    if found.report is None:
        raise UsageError(f"run {found.folder} has not finished", "the command that began it resumes it")
    if json_:
        show_text(_json(found.report.json()))
    else:
        show_report(found.report)


@app.command()
def runs(json_: JsonOption = False) -> None:
    """List the runs of this directory."""
    from autosparse.console import show_runs
    from autosparse.report import all_runs

    found = all_runs()
    if json_:
        listed = [{"run": str(r.folder), "finished": r.report is not None} for r in found]
        show_text(_json({"schema_version": 1, "runs": listed}))
    elif found:
        show_runs(found)
    else:
        _say("there is no run in this directory yet\nhint: run `autosparse run`")


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path(FILE),
    template: Annotated[str, typer.Option(help="Which template.")] = "quickstart",
    list_: Annotated[bool, typer.Option("--list", help="List the templates.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a commented spec to start from."""
    templates = shipped("templates")
    if list_:
        show_table(["template", "what for"], [(name, _first_comment(file)) for name, file in templates.items()])
        return
    if template not in templates:
        hint = suggestion(template, list(templates)) or f"templates: {', '.join(templates)}"
        raise UsageError(f"there is no template `{template}`", hint)
    if path.exists() and not force:
        raise UsageError(f"{path} is already there", "name another file, or overwrite it with `--force`")
    try:
        path.write_bytes(templates[template].read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    load_spec(path)
    show_text(f"wrote {path}")
    _say(f"next: `autosparse plan {path}`, then `autosparse run {path}`")


@app.command()
def validate(
    specs: Annotated[list[str] | None, typer.Argument(metavar="[SPEC]...", help="Spec files.")] = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Check specs without running anything."""
    store = Store.default()
    problems: list[tuple[str, str | None]] = []
    valid: list[str] = []
    for name in specs or [None]:  # type: ignore[list-item]
        found = find_spec(name, store)
        try:
            load_spec(found.path, overrides=set_ or ())
            valid.append(str(found.path))
        except SpecError as error:
            problems += error.problems
    if json_:
        told = [{"message": message, "hint": hint} for message, hint in problems]
        show_text(_json({"schema_version": 1, "valid": valid, "problems": told}))
    else:
        for path in valid:
            show_text(f"{path} is valid")
    if problems:
        if not json_:
            raise SpecError.of(problems)
        raise typer.Exit(2)


@app.command()
def schema() -> None:
    """Print the JSON Schema of specs, for editors and CI."""
    show_text(_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **Spec.model_json_schema()}))


@app.command()
def render(
    spec: SpecArgument = None,
    budget: BudgetOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Print a spec with every value written out, and where each comes from."""
    loaded = _load(spec, Store.default(), budget, set_, quiet=quiet, remember=False)
    resolved = resolve(loaded.spec, this_machine()).model_dump(mode="json")
    origins = provenance(resolved, loaded.document)
    if json_:
        show_text(_json({"resolved": resolved, "provenance": origins}))
    else:
        show_text("\n".join(_lines(resolved, origins)))


@app.command("list")
def list_(
    kind: Annotated[str, typer.Argument(help=f"One of {', '.join(_KINDS)}.")],
    json_: JsonOption = False,
) -> None:
    """List what a spec can name, with one line of help each."""
    if kind not in _KINDS:
        hint = suggestion(kind, _KINDS) or f"kinds: {', '.join(_KINDS)}"
        raise UsageError(f"there is no kind `{kind}`", hint)
    rows: list[tuple[str, str, str]]
    if kind in _LISTS:
        rows = [(e.name, e.help, ", ".join(_option(o) for o in e.options.values())) for e in _LISTS[kind]]
    elif kind in ("presets", "controls"):
        table = PRESETS if kind == "presets" else CONTROLS
        rows = [(name, text, ", ".join(map(str, _names(choices)))) for name, (text, choices) in table.items()]
    else:
        rows = [(name, _first_comment(file), "") for name, file in shipped(kind).items()]
    if json_:
        items = [{"name": name, "help": text, "options": options} for name, text, options in rows]
        show_text(_json({"schema_version": 1, "kind": kind, "items": items}))
    elif any(options for *_, options in rows):
        last = "choices" if kind in ("presets", "controls") else "options"
        show_table(["name", "what it is", last], rows)
    else:
        show_table(["name", "what it is"], [row[:2] for row in rows])


@app.command()
def doctor(json_: JsonOption = False) -> None:
    """Tell what autosparse finds on this machine."""
    from autosparse.backends.machine import Place, environment
    from autosparse.doctor import missing_extras

    store = Store.default()
    machine = this_machine()
    place = Place(machine.devices[0], machine.cores)
    free = shutil.disk_usage(next(p for p in (store.root, *store.root.parents) if p.exists())).free
    facts: dict[str, Any] = {
        **environment(place),
        "devices": ", ".join(machine.devices),
        "precision": "bfloat16" if machine.bfloat16(place.device) else "float32",
        "cache": str(store.root),
        "cache_free_bytes": free,
    }
    facts |= {f"extra {name}": f"not installed: {command}" for name, command in missing_extras().items()}
    if json_:
        show_text(_json({"schema_version": 1, **facts}))
    else:
        show_table(["what", "found"], [(name.replace("_", " "), value) for name, value in facts.items()])


@cache.command("dir")
def cache_dir() -> None:
    """Print the cache's folder."""
    show_text(str(Store.default().root))


@cache.command("ls")
def cache_ls(json_: JsonOption = False) -> None:
    """List the artifacts."""
    from autosparse.console import size

    rows = [
        {
            "operation": artifact.descriptor["operation"],
            "key": artifact.key,
            "bytes": sum(file["bytes"] for file in artifact.files.values()),
            "seconds": artifact.descriptor.get("seconds"),
            "created": artifact.descriptor.get("created"),
        }
        for artifact in Store.default().artifacts()
    ]
    if json_:
        show_text(_json({"schema_version": 1, "artifacts": rows}))
    elif rows:
        show_table(
            ["operation", "key", "size", "seconds", "made"],
            [(r["operation"], r["key"][:12], size(r["bytes"]), r["seconds"], r["created"]) for r in rows],
        )
    else:
        _say("the cache is empty")


@cache.command("verify")
def cache_verify(json_: JsonOption = False) -> None:
    """Read every artifact and compare it with its digests."""
    checked = list(Store.default().verify())
    damaged = [problem for _, problem in checked if problem]
    if json_:
        show_text(_json({"schema_version": 1, "checked": len(checked), "damaged": damaged}))
    else:
        for problem in damaged:
            show_text(problem)
        show_text(f"{len(checked) - len(damaged)} of {len(checked)} artifacts are sound")
    if damaged:
        _say("hint: the next run sets damaged artifacts aside and makes them again")
        raise typer.Exit(4)


@app.callback(invoke_without_command=False)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
) -> None:
    """Options of every command."""
    if version:
        show_text(f"autosparse {__version__}")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit with its code: the only place that prints an error or exits."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--version"]:  # typer asks for a command before it looks at options
        show_text(f"autosparse {__version__}")
        sys.exit(0)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app(args=arguments, prog_name="autosparse")
    except AutosparseError as error:
        if "--debug" in arguments:
            raise
        for message, hint in getattr(error, "problems", ((error.message, error.hint),)):
            _say(f"error: {message}" + (f"\nhint: {hint}" if hint else ""))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of a pipe has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


class _Terminated(BaseException):
    """SIGTERM arrived."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


@contextmanager
def _kept_on_interrupt(quiet: bool) -> Iterator[list[Callable[[], str]]]:
    told: list[Callable[[], str]] = []
    try:
        yield told
    except (KeyboardInterrupt, _Terminated) as reason:
        if not quiet:
            _say(told[0]() if told else "stopped before anything ran")
        raise SystemExit(130 if isinstance(reason, KeyboardInterrupt) else 143) from None


def _interrupted(finished: Mapping[str, str], total: int) -> str:
    made = sum(status == "run" for status in finished.values())
    return (
        f"stopped: {len(finished)} of {total} steps are kept ({made} made by this call)\n"
        "hint: the same command resumes with the next step"
    )


def _load(
    name: str | None,
    store: Store,
    budget: list[str] | None,
    overrides: list[str] | None,
    *,
    quiet: bool,
    remember: bool = True,
) -> LoadedSpec:
    found = find_spec(name, store)
    if found.why and not quiet:
        _say(f"spec {found.path}: {found.why}")
    loaded = load_spec(found.path, overrides=overrides or (), budget=budget or ())
    if remember:
        remember_spec(found.path, store)
    return loaded


def _compile(loaded: LoadedSpec) -> Plan:
    return compile_plan(resolve(loaded.spec, this_machine()), loaded.name)


def _lines(value: Any, origins: Mapping[str, str], path: str = "", depth: int = 0) -> Iterator[str]:
    for key, inner in value.items():
        dotted = f"{path}.{key}" if path else key
        if isinstance(inner, dict):
            yield f"{'  ' * depth}{key}:"
            yield from _lines(inner, origins, dotted, depth + 1)
        else:
            yield f"{'  ' * depth}{key}: {json.dumps(inner, ensure_ascii=False)}  # {origins[dotted]}"


def _names(choices: Mapping[str, Any]) -> list[str]:
    return [f"{part} {choice['name'] if isinstance(choice, dict) else choice}" for part, choice in choices.items()]


def _option(option: Any) -> str:
    return option.name if option.required else f"{option.name}={option.default}"


def _first_comment(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line[2:] for line in lines if line.startswith("# ") and "yaml-language-server" not in line), "")


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False)


def _say(text: str) -> None:
    for line in text.splitlines():
        notes().print(plain(line), soft_wrap=True)
