"""Which steps of a plan a run goes through: all, or some with what they need; and which it makes again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from autosparse.errors import UsageError
from autosparse.plan.model import Plan
from autosparse.plan.status import Status
from autosparse.registry import suggestion


@dataclass(frozen=True)
class Selection:
    """The steps that a run goes through, with their statuses, in the plan's order.

    `forced` are made though they are there; `after` are the steps that depend on those. `finishes` tells that the
    whole plan is there afterwards.
    """

    statuses: Mapping[str, Status]
    forced: frozenset[str] = frozenset()
    after: frozenset[str] = frozenset()
    finishes: bool = True


def select_steps(
    plan: Plan, statuses: Mapping[str, Status], *, only: Sequence[str] = (), force: Sequence[str] = ()
) -> Selection:
    """The steps that names or globs mean. Raises UsageError for one that means no step."""
    forced = frozenset(name for pattern in force for name in _matching(plan, pattern, "--force"))
    chosen = frozenset(name for pattern in only for name in _matching(plan, pattern, "--only")) if only else plan.steps
    names = _needed(plan, statuses, chosen, forced) if only else frozenset(plan.steps)
    selected = {
        name: Status("run", "asked for by `--force`") if name in forced else status
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
    raise UsageError(f"`{option} {pattern}` names no step", hint)


def _needed(
    plan: Plan, statuses: Mapping[str, Status], chosen: Collection[str], forced: Collection[str]
) -> frozenset[str]:
    # What is there needs nothing, unless it is made again.
    needed: set[str] = set()
    for name in reversed(list(plan.steps)):  # inputs come before what takes them
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
