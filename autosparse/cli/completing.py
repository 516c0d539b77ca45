"""What a shell that completes a command is told: specs, runs, steps, names, paths of values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from autosparse.backends import this_machine
from autosparse.errors import AutosparseError
from autosparse.packaged import shipped
from autosparse.plan import compile_plan
from autosparse.report import all_runs, leaves
from autosparse.spec import find_spec, load_spec, resolve
from autosparse.store import Store


def spec_files(incomplete: str) -> list[str]:
    """YAML files below what is written so far, and folders on the way to them."""
    folder = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    found = [
        *folder.glob("*.yaml"),
        *folder.glob("*.yml"),
        *(path for path in folder.glob("*/") if any(path.glob("*.yaml"))),
    ]
    return _beginning((f"{path}/" if path.is_dir() else str(path) for path in sorted(found)), incomplete)


def run_names(incomplete: str) -> list[str]:
    """Runs of this directory, the latest first."""
    return _beginning((run.folder.name for run in reversed(all_runs())), incomplete)


def step_names(incomplete: str) -> list[str]:
    """Steps of the spec that a command without SPEC means."""
    try:
        loaded = load_spec(find_spec(None, Store.default()).path)
        plan = compile_plan(resolve(loaded.spec, this_machine()), loaded.name)
    except AutosparseError:
        return []
    return _beginning(plan.steps, incomplete)


def template_names(incomplete: str) -> list[str]:
    """Templates of `init`."""
    return _beginning(shipped("templates"), incomplete)


def settings(incomplete: str) -> list[str]:
    """`path=` of every value of the spec that a command without SPEC means."""
    try:
        spec = load_spec(find_spec(None, Store.default()).path).spec
    except AutosparseError:
        return []
    return _beginning(_paths(leaves(spec.model_dump(mode="json"))), incomplete)


def _paths(values: Iterable[tuple[str, object]]) -> Iterator[str]:
    for path, _ in values:
        if "[" not in path:
            yield f"{path.removesuffix('.name')}="


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
