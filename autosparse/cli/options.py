"""Arguments and options of several commands, and their shell completion."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from autosparse.backends import this_machine
from autosparse.cli.help import OUTPUT, SPEC, STEPS
from autosparse.errors import AutosparseError
from autosparse.packaged import shipped
from autosparse.planning.compile import compile_plan
from autosparse.report.compare import leaves
from autosparse.report.folder import all_runs
from autosparse.spec import LoadedSpec, find_spec, load_spec, resolve
from autosparse.store import Store


def spec_files(incomplete: str) -> list[str]:
    """Return the YAML files that match the input so far, and the folders on the way."""
    folder = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    folders = (path for path in folder.glob("*/") if any(path.glob("*.yaml")))
    paths = [*folder.glob("*.yaml"), *folder.glob("*.yml"), *folders]
    return beginning((f"{path}/" if path.is_dir() else str(path) for path in sorted(paths)), incomplete)


def run_names(incomplete: str) -> list[str]:
    """Return the runs of this directory, the latest first."""
    return beginning((run.folder.name for run in reversed(all_runs())), incomplete)


def step_names(incomplete: str) -> list[str]:
    """Return the steps of the spec that a command without SPEC uses."""
    with suppress(AutosparseError):  # the command itself reports errors of the spec
        loaded = _meant()
        return beginning(compile_plan(resolve(loaded.spec, this_machine()), loaded.name).steps, incomplete)
    return []


def template_names(incomplete: str) -> list[str]:
    """Return the templates of `init`."""
    return beginning(shipped("templates"), incomplete)


def settings(incomplete: str) -> list[str]:
    """Return `path=` for every value of the spec that a command without SPEC uses."""
    with suppress(AutosparseError):
        values = leaves(_meant().spec.model_dump(mode="json"))
        return beginning((f"{path.removesuffix('.name')}=" for path, _ in values if "[" not in path), incomplete)
    return []


def beginning(names: Iterable[str], incomplete: str) -> list[str]:
    """Return the names that begin with the input so far."""
    return [name for name in names if name.startswith(incomplete)]


def _meant() -> LoadedSpec:
    return load_spec(find_spec(None, Store.default()).path)


def specs_argument(text: str, metavar: str = "SPEC") -> Any:
    """Return an argument that names specs; `text` is its help."""
    return typer.Argument(metavar=metavar, help=text, autocompletion=spec_files)


def runs_argument(text: str, metavar: str = "RUN") -> Any:
    """Return an argument that names runs; `text` is its help."""
    return typer.Argument(metavar=metavar, help=text, autocompletion=run_names)


def option(group: str, text: str, *names: str, metavar: str | None = None) -> Any:
    """Return an option of a group of the help; `text` is its help."""
    return typer.Option(*names, metavar=metavar, help=text, rich_help_panel=group)


def steps_option(text: str) -> Any:
    """Return an option that names steps; `text` is its help."""
    return typer.Option(metavar="STEP", help=text, autocompletion=step_names, rich_help_panel=STEPS)


Spec = Annotated[str | None, specs_argument("A spec file; without one, the last used.")]
SpecOrPlan = Annotated[
    str | None, specs_argument("A spec file, or a plan saved by `plan --out`; without one, the last spec.")
]
Budget = Annotated[
    list[str] | None,
    typer.Option(
        metavar="BUDGET",
        help="Replace the spec's budget: 0.99, 99% or 100x removes 99 % of the weights; parameters=120k, macs=5M, "
        "bytes=500kB, macs=30% or latency=2x keeps at most this much; repeatable.",
        rich_help_panel=SPEC,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Set a value of the spec; repeatable.",
        autocompletion=settings,
        rich_help_panel=SPEC,
    ),
]
Refit = Annotated[
    bool,
    typer.Option(
        "--refit", help="Recalibrate the cost model and choose again under `target.time`.", rich_help_panel=SPEC
    ),
]
Scan = Annotated[
    bool,
    typer.Option(
        "--scan",
        help="Read every image of the datasets: sizes, formats, classes, equal and broken images.",
        rich_help_panel=STEPS,
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Exit with code 5 if data, a library or a device is missing, after showing the plan.",
        rich_help_panel=OUTPUT,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.", rich_help_panel=OUTPUT)]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print nothing but the result and errors.", rich_help_panel=OUTPUT)
]
