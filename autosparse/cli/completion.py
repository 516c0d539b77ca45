"""Shell completion of specs, runs, steps, names and settings."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from autosparse.backends import this_machine
from autosparse.errors import AutosparseError
from autosparse.packaged import shipped
from autosparse.plan.compile import compile_plan
from autosparse.report import all_runs, leaves
from autosparse.spec import LoadedSpec, find_spec, load_spec, resolve
from autosparse.store import Store


def spec_files(incomplete: str) -> list[str]:
    """YAML files below what is written so far, and folders on the way to them."""
    folder = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    paths = [
        *folder.glob("*.yaml"),
        *folder.glob("*.yml"),
        *(path for path in folder.glob("*/") if any(path.glob("*.yaml"))),
    ]
    return beginning((f"{path}/" if path.is_dir() else str(path) for path in sorted(paths)), incomplete)


def run_names(incomplete: str) -> list[str]:
    """Runs of this directory, the latest first."""
    return beginning((run.folder.name for run in reversed(all_runs())), incomplete)


def step_names(incomplete: str) -> list[str]:
    """Steps of the spec that a command without SPEC means."""
    with suppress(AutosparseError):  # what is wrong with it, the command itself tells
        loaded = _meant()
        return beginning(compile_plan(resolve(loaded.spec, this_machine()), loaded.name).steps, incomplete)
    return []


def template_names(incomplete: str) -> list[str]:
    """Templates of `init`."""
    return beginning(shipped("templates"), incomplete)


def settings(incomplete: str) -> list[str]:
    """`path=` of every value of the spec that a command without SPEC means."""
    with suppress(AutosparseError):
        values = leaves(_meant().spec.model_dump(mode="json"))
        return beginning((f"{path.removesuffix('.name')}=" for path, _ in values if "[" not in path), incomplete)
    return []


def beginning(names: Iterable[str], incomplete: str) -> list[str]:
    """Those of the names that begin with what is written so far."""
    return [name for name in names if name.startswith(incomplete)]


def _meant() -> LoadedSpec:
    return load_spec(find_spec(None, Store.default()).path)
