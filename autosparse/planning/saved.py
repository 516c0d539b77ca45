"""Saved plans: a plan in a file, and its differences from the current plan."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from autosparse.backends import Machine
from autosparse.errors import SpecError, UsageError
from autosparse.packaged import __version__
from autosparse.planning.model import Plan, Step
from autosparse.planning.reasons import Change, History, summarize_changes
from autosparse.planning.status import Status, count, missing_device
from autosparse.regular_file import LARGEST_MEMORY, open_regular, read_regular
from autosparse.spec import LoadedSpec, take_spec
from autosparse.spec.document import texts
from autosparse.store import Index, Record
from autosparse.store.files import drafted, sweep
from autosparse.store.sealed import seal, unseal

KIND = "autosparse plan"
_SCHEMA_VERSION = 1


@dataclass(frozen=True)
class SavedStep:
    """A step as planned, and its status in the store."""

    name: str
    operation: str
    version: int
    key: str
    options: Mapping[str, Any]
    inputs: Mapping[str, str]
    """role -> key"""
    status: str
    reason: str


@dataclass(frozen=True)
class SavedPlan:
    """The contents of a plan file; `relative` are the dotted paths in `resolved` of paths relative to the file."""

    kind: str
    schema_version: int
    autosparse: str
    spec: str
    digest: str
    budgets: Sequence[Any]
    summary: Mapping[str, int]
    resolved: Mapping[str, Any]
    relative: Sequence[str]
    steps: Sequence[SavedStep]
    path: str = ""
    """path of the spec's file, relative to this one"""


def save_plan(
    path: Path, plan: Plan, statuses: Mapping[str, Status], relative: Iterable[str], spec: Path | None = None
) -> None:
    """Write a plan of the file `spec` atomically; the paths `relative` are stored relative to the plan's file."""
    known = frozenset(relative)
    dotted: list[str] = []
    resolved = plan.spec.model_dump(mode="json")
    for keys, value, holder in texts(resolved):
        if value in known:
            holder[keys[-1]] = _from(path, value)
            dotted.append(".".join(map(str, keys)))
    saved = SavedPlan(
        kind=KIND,
        schema_version=_SCHEMA_VERSION,
        autosparse=__version__,
        spec=plan.name,
        digest=plan.digest,
        budgets=resolved["budget"],
        summary=count(statuses),
        resolved=resolved,
        relative=dotted,
        steps=[_saved(plan, step, statuses[step.name]) for step in plan.steps.values()],
        path=_from(path, str(spec.absolute())) if spec else "",
    )
    if path.exists() and not _is_ours(path):
        raise UsageError(f"{path} exists and is not a saved plan", "name another file with `--out`")
    sweep(path.parent, path.name)
    try:
        with drafted(path) as draft:
            draft.write_bytes(seal(asdict(saved)))
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror or error}", "name another file with `--out`"
        ) from None


def read_plan(path: Path) -> SavedPlan | None:
    """Return the plan in a file, or None for a possible spec. Raises UsageError for a file that is neither."""
    try:
        text = (
            read_regular(path, most=LARGEST_MEMORY).decode() if path.is_file() else ""
        )  # a pipe can be read only once
    except (OSError, ValueError):
        return None
    if not text.lstrip().startswith("{"):
        return None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        if f'"kind": "{KIND}"' in text[:200]:
            raise _damaged(path, error) from None
        return None
    kind = data.get("kind")
    if kind is None and "schema_version" in data:
        what = "the report of a run" if "results" in data else "the output of a command"
        raise UsageError(
            f"{path} is {what}, neither a spec nor a saved plan", "`autosparse plan --out FILE` saves a plan to run"
        )
    if kind != KIND:
        return None
    if data.get("schema_version") != _SCHEMA_VERSION:
        version = data.get("autosparse", "another version")
        raise UsageError(
            f"{path} was saved by autosparse {version} in a form that {__version__} cannot read", _again(path)
        )
    try:
        return TypeAdapter(SavedPlan).validate_python(unseal(text.encode()))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _damaged(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except ValueError as error:
        raise _damaged(path, error) from None


def spec_of(saved: SavedPlan, path: Path) -> LoadedSpec:
    """Return the spec that a plan was compiled from, with its paths resolved from the file's folder."""
    resolved, relative = json.loads(json.dumps(saved.resolved)), set()
    for keys, value, holder in texts(resolved):
        if ".".join(map(str, keys)) in saved.relative:
            holder[keys[-1]] = os.path.normpath(path.parent.absolute() / value)
            relative.add(holder[keys[-1]])
    try:
        loaded = take_spec(resolved, saved.spec, frozenset(relative))
        return replace(loaded, origin=path.parent.absolute() / saved.path) if saved.path else loaded
    except SpecError as error:
        raise UsageError(
            f"{path} holds a spec that autosparse {__version__} does not accept: {error.message}", _again(path)
        ) from None


def check_unmoved(saved: SavedPlan, path: Path, plan: Plan, statuses: Mapping[str, Status], machine: Machine) -> None:
    """Reject a plan with other or more work than the saved one. Raises UsageError with the difference."""
    again = _again(path)
    if absent := missing_device(plan, machine):
        raise UsageError(f"{path} was planned for {plan.spec.target.device}: {absent[0][0]}", again)
    before = {step.name: step for step in saved.steps}
    steps: Mapping[str, Any] = {**before, **plan.steps}
    moved = [n for n in steps if n not in before or n not in plan.steps or before[n].key != plan.steps[n].key]
    if moved:
        changes = {name: _changes(plan, name, before.get(name)) for name in moved}
        name = next((name for name in moved if changes[name]), moved[0])
        change = changes[name] or "has another key"
        others = f"; {len(moved)} steps differ from the plan" if len(moved) > 1 else ""
        versions = f" (saved by autosparse {saved.autosparse}, this is {__version__})"
        raise UsageError(
            f"{path} has moved: `{name}`: {change}{others}{versions if saved.autosparse != __version__ else ''}", again
        )
    gone = [step.name for step in saved.steps if step.status == "reuse" and statuses[step.name].status != "reuse"]
    if gone:
        several = f" and {len(gone) - 1} more were" if len(gone) > 1 else " was"
        are = "are" if len(gone) > 1 else "is"
        raise UsageError(
            f"`{gone[0]}`{several} to be reused and {are} no longer in the cache: more work than planned", again
        )


def _saved(plan: Plan, step: Step, status: Status) -> SavedStep:
    about = step.name, step.operation, step.version, step.key, step.options, plan.input_keys(step)
    return SavedStep(*about, status.status, status.reason)


def _changes(plan: Plan, name: str, before: SavedStep | None) -> str:
    # Differences of the step itself; empty where only its inputs differ.
    if before is None:
        return "was not planned"
    if name not in plan.steps:
        return "was planned but is no longer in the spec"
    about = {"version": before.version, "options": before.options, "inputs": before.inputs}
    record = Record(before.operation, before.key, name, 0, json.dumps(about))
    changes: Sequence[Change] = History(plan, Index({})).changes(plan.steps[name], record)
    return summarize_changes(changes)


def _from(path: Path, value: str) -> str:
    try:
        return os.path.relpath(value, path.parent.absolute()).replace(os.sep, "/")
    except ValueError:  # on another drive
        return value


def _is_ours(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return f'"kind": "{KIND}"'.encode() in file.read(200)
    except (OSError, ValueError):
        return False


def _again(path: Path) -> str:
    return f"plan it again with `autosparse plan SPEC --out {shlex.quote(str(path))}`, or run the spec"


def _damaged(path: Path, why: object) -> UsageError:
    return UsageError(f"{path} is a saved plan that is damaged: {why}", _again(path))
