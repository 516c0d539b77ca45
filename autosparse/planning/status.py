"""The status of every step, `reuse`, `resume` or `run`, with its reason; and the steps that a run goes through."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from importlib import util
from typing import Any

from autosparse.backends import Machine, Placement, environment, missing_extras
from autosparse.core.training.torch_compile import DENSE
from autosparse.errors import UsageError
from autosparse.exporters import exporters
from autosparse.planning.model import Plan, Step
from autosparse.planning.reasons import Change, History, environment_changes, summarize_changes
from autosparse.registry import suggestion
from autosparse.steps import operations
from autosparse.steps.emit import EmitResult
from autosparse.steps.latency import LatencyResult
from autosparse.store import Index, Record, Store, open_index
from autosparse.text import plural

SHARED = "in the shared store"
"""reason to reuse a step whose artifact is not in the cache yet"""


@dataclass(frozen=True)
class Status:
    """`reuse`, `resume` or `run`, with its reason: changes since the `nearest` artifact, or `because` of inputs.

    `environment` is the difference from the environment that made a reused artifact.
    """

    status: str
    reason: str
    changes: tuple[Change, ...] = ()
    because: tuple[str, ...] = ()
    environment: tuple[Change, ...] = ()
    nearest: Record | None = None


def statuses(plan: Plan, store: Store, index: Index | None = None) -> dict[str, Status]:
    """Map each step to its status. Checks presence only: readers check the bytes."""
    index = open_index(store) if index is None else index
    history = History(plan, index)
    assert isinstance(plan.spec.target.threads, int), "statuses takes the plan of a resolved spec"
    here = environment(Placement(plan.spec.target.device, plan.spec.target.threads))
    by_name: dict[str, Status] = {}
    roots: dict[str, str] = {}  # step to run -> the step that causes it
    keys = store.present([(step.operation, step.key) for step in plan.steps.values()])
    present = {name for name, step in plan.steps.items() if step.key in keys}
    chains: dict[str, list[str]] = {}
    for name, step in plan.steps.items():
        if "chained" in operations[step.operation].facts:
            chains.setdefault(name.rpartition("/")[0], []).append(name)
    for name, step in plan.steps.items():
        if name in present:
            here_too = store.url is None or store.holds(step.operation, step.key)
            by_name[name] = _reused(index.find(step.key), here) if here_too else Status("reuse", SHARED)
        else:
            chain = chains.get(name.rpartition("/")[0], [])
            made = [link for link in chain if link in present]
            by_name[name] = _made(history, step, by_name, roots, made, len(chain))
            if by_name[name].status == "run" and store.has_checkpoint(step.key):
                by_name[name] = replace(by_name[name], status="resume", reason="its training has a checkpoint")
    return by_name


def count(statuses: Mapping[str, Status]) -> dict[str, int]:
    """Count the steps that run, are reused and are resumed."""
    return {kind: sum(status.status == kind for status in statuses.values()) for kind in ("run", "reuse", "resume")}


def to_run(statuses: Mapping[str, Status]) -> list[str]:
    """Return the names of steps that run or are resumed."""
    return [name for name, status in statuses.items() if status.status != "reuse"]


def _reused(record: Record | None, here: Mapping[str, Any]) -> Status:
    if record is None or not (changes := environment_changes(record, here)):
        return Status("reuse", "in the cache", nearest=record)
    text = ", ".join(f"{change.path} {change.before}" for change in changes)
    return Status("reuse", f"in the cache, made with {text}", environment=changes, nearest=record)


def _made(
    history: History, step: Step, statuses: Mapping[str, Status], roots: dict[str, str], made: Sequence[str], links: int
) -> Status:
    nearest = history.nearest(step)
    record, changes = (nearest.record, nearest.changes) if nearest else (None, ())
    waiting = tuple(dict.fromkeys(name for name in step.inputs.values() if statuses[name].status != "reuse"))
    roots[step.name] = step.name
    if made and not waiting:
        noun = operations[step.operation].facts["chained"]
        reason = f"{len(made)} of {links} {noun} are cached"
        return Status("resume", reason, nearest=record)
    named = record is not None and record.step == step.name
    if waiting and not (named and changes):
        root = roots[step.name] = roots[waiting[0]]
        return Status("run", f"after `{root}`: {statuses[root].reason}", because=waiting, nearest=record)
    if nearest and named and not changes:
        changes = history.counted(step, nearest)
    if changes:
        text = summarize_changes(changes, added=nearest is not None and nearest.kept)
        return Status("run", text, changes, waiting, nearest=record)
    if nearest and (origin := history.origin(step, nearest)):
        source, changes = origin
        return Status("run", f"{summarize_changes(changes)} in `{source.name}`", changes, nearest=record)
    reason = "no earlier artifact" if not nearest or nearest.inputs else "no longer in the cache"
    return Status("run", reason, nearest=record)


def missing_data(plan: Plan, statuses: Mapping[str, Status]) -> list[tuple[str, str]]:
    """Return missing data and missing trained weights of the steps to run, each with a hint."""
    names = to_run(statuses)
    sources = [plan.sources[name] for name in names if name in plan.sources]
    data = [problem for source in sources if not source.fetches and (problem := source.missing())]
    starts = [plan.starts[name].weights for name in names if name in plan.starts]
    return [*data, *dict.fromkeys(problem for weights in starts if (problem := weights.missing))]


def missing_libraries(plan: Plan, statuses: Mapping[str, Status]) -> list[tuple[str, str]]:
    """Return missing libraries of the steps to run, each with a hint."""
    steps = [plan.steps[name] for name in to_run(statuses)]
    formats = dict.fromkeys(step.options["format"] for step in steps if step.gives(EmitResult))
    extras = {format: exporters[format].facts["extra"] for format in formats if "extra" in exporters[format].facts}
    needed = {f"format `{format}`": extra for format, extra in extras.items()}
    if any(step.gives(LatencyResult) for step in steps):
        needed["a latency budget"] = "onnx"
    recipes = [step.options.get("training", {}) for step in steps]
    if plan.spec.target.device == "cpu" and any(recipe.get("kernels") == "sparse" for recipe in recipes):
        needed["`training.kernels: sparse`"] = "sparse"
    missing = missing_extras() if needed else {}
    absent = [
        (f"{what} needs extra `{extra}`, which is not installed", f"run `{missing[extra]}`")
        for what, extra in needed.items()
        if extra in missing
    ]
    if any(recipe.get("kernels") == "compiled" for recipe in recipes) and not plan.spec.target.elsewhere:
        absent += _missing_compiler(plan.spec.target.device)
    return absent


def _missing_compiler(device: str) -> list[tuple[str, str]]:
    # The compiler that torch.compile uses, looked up as torch does.
    what = "`training.kernels: compiled` needs"
    if device.startswith("cuda"):
        lacks = not util.find_spec("triton")
        return [(f"{what} Triton, which is not installed", f"install Triton, or {DENSE}")] if lacks else []
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    compiler = (shlex.split(os.environ.get("CXX", "")) or [usual])[0]
    if device != "cpu" or shutil.which(compiler):
        return []
    hint = f"install a C++ compiler or name one by the variable CXX, or {DENSE}"
    return [(f"{what} a C++ compiler, and there is no {compiler}", hint)]


def missing_device(plan: Plan, machine: Machine) -> list[tuple[str, str]]:
    """Return a problem and a hint if this machine lacks the target's device."""
    device = plan.spec.target.device
    if machine.has(device):
        return []
    return [(f"this machine has no device {device}", "`--set target.device=auto` uses the best available one")]


def excess_threads(plan: Plan, machine: Machine) -> list[tuple[str, str]]:
    """Return a problem and a hint if steps run here with more threads than cores."""
    target = plan.spec.target
    assert isinstance(target.threads, int), "excess_threads takes the plan of a resolved spec"
    if target.threads <= machine.cores or target.elsewhere:
        return []
    cores = plural(machine.cores, "core")
    text = f"this process may use {cores}: {target.threads} threads are slower than one per core"
    return [(text, "`--set target.threads=auto` uses all of them")]


def chain(plan: Plan, statuses: Mapping[str, Status], name: str) -> list[str]:
    """Return a step and the chain of its causes, down to the root cause. Raises UsageError for an unknown step."""
    if name not in plan.steps:
        hint = suggestion(name, list(plan.steps)) or "`autosparse plan --steps` lists them"
        raise UsageError(f"this plan has no step `{name}`", hint)
    links = [name]
    while because := statuses[links[-1]].because:
        links.append(because[0])
    return links


def explained(plan: Plan, statuses: Mapping[str, Status], name: str) -> dict[str, Any]:
    """Return the facts about a step: key, nearest artifact, inputs, and the steps that use its result."""
    step, status = plan.steps[name], statuses[name]
    nearest = status.nearest
    return {
        "name": name,
        "operation": step.operation,
        "version": step.version,
        "key": step.key,
        "status": status.status,
        "reason": status.reason,
        "changes": [change.json() for change in status.changes],
        "environment": [change.json() for change in status.environment],
        "nearest": nearest
        and {
            "key": nearest.key,
            "step": nearest.step or None,
            "spec": nearest.about.get("spec"),
            "created": nearest.about.get("created"),
        },
        "options": dict(step.options),
        "inputs": {
            role: {"step": source, "status": statuses[source].status, "reason": statuses[source].reason}
            for role, source in step.inputs.items()
        },
        "outputs": [other.name for other in plan.steps.values() if name in other.inputs.values()],
    }


@dataclass(frozen=True)
class Selection:
    """The steps that a run goes through, those `forced`, those `after` them; `finishes` if it completes the plan."""

    statuses: Mapping[str, Status]
    forced: frozenset[str] = frozenset()
    after: frozenset[str] = frozenset()
    finishes: bool = True


def select_steps(
    plan: Plan, statuses: Mapping[str, Status], *, only: Sequence[str] = (), force: Sequence[str] = ()
) -> Selection:
    """Return the steps that match names or globs. Raises UsageError for a pattern without a match."""
    forced = frozenset(name for pattern in force for name in _matching(plan, pattern, "--force"))
    chosen = frozenset(name for pattern in only for name in _matching(plan, pattern, "--only")) if only else plan.steps
    names = _needed(plan, statuses, chosen, forced) if only else frozenset(plan.steps)
    selected = {
        name: Status("run", "forced by `--force`") if name in forced else status
        for name, status in statuses.items()
        if name in names
    }
    finishes = all(status.status == "reuse" for name, status in statuses.items() if name not in names)
    return Selection(selected, forced, _after(plan, forced), finishes)


def _matching(plan: Plan, pattern: str, option: str) -> list[str]:
    if pattern in plan.steps:
        return [pattern]
    if names := [name for name in plan.steps if fnmatchcase(name, pattern)]:
        return names
    kind, slash, rest = pattern.partition("/")
    kinds = list(dict.fromkeys(name.partition("/")[0] for name in plan.steps if "/" in name))
    near = kind if kind in kinds else next(iter(get_close_matches(kind, kinds, n=1)), None)
    hint = suggestion(pattern, list(plan.steps)) or "`autosparse plan --steps` lists them"
    if near and (not slash or ("*" in rest and near != kind)):
        hint = f"did you mean `{near}/{rest or '*'}`?"
    raise UsageError(f"`{option} {pattern}` matches no step", hint)


def _needed(
    plan: Plan, statuses: Mapping[str, Status], chosen: Collection[str], forced: Collection[str]
) -> frozenset[str]:
    # A cached step needs no inputs, unless it is forced.
    needed: set[str] = set()
    for name in reversed(list(plan.steps)):  # inputs precede their consumers
        if name in chosen or name in forced or name in needed:
            needed.add(name)
            if statuses[name].status != "reuse" or name in forced:
                needed.update(plan.steps[name].inputs.values())
    return frozenset(needed)


def _after(plan: Plan, names: Collection[str]) -> frozenset[str]:
    after: set[str] = set()
    for name, step in plan.steps.items():
        if any(source in names or source in after for source in step.inputs.values()):
            after.add(name)
    return frozenset(after)
