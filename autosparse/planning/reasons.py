"""Reasons why a step has to run: its differences from the nearest existing artifact."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autosparse.planning.model import Plan, Step
from autosparse.spec.document import leaves
from autosparse.steps import operations
from autosparse.store import Index, Record

_NAMED, _RELATED, _LATEST = 4, 8, 4  # number of earlier artifacts compared: same step, same inputs, latest
_ABSENT: Any = object()

SAME = ("torch", "processor", "device", "threads")
"""The parts of an environment that affect numbers and speed."""


@dataclass(frozen=True)
class Change:
    """One difference; `path` is a path of the spec where the spec has one."""

    path: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.path} {_short(self.before)} → {_short(self.after)}"

    def json(self) -> dict[str, Any]:
        """Return the change with `before` and `after`, each left out where the option is absent."""
        sides = {"before": self.before, "after": self.after}
        return {"path": self.path, **{side: value for side, value in sides.items() if value is not _ABSENT}}


@dataclass(frozen=True)
class Nearest:
    """The existing artifact nearest to a step, the changes since, and the inputs that differ."""

    record: Record
    changes: tuple[Change, ...]
    inputs: tuple[str, ...]
    """roles whose artifacts differ"""
    kept: bool = False
    """true if the plan uses that artifact too: the step adds to it and does not replace it"""


class History:
    """The artifacts of a store, arranged for comparison with a plan's steps."""

    def __init__(self, plan: Plan, index: Index) -> None:
        self._plan = plan
        self._index = index
        self._planned = {step.key for step in plan.steps.values()}
        self._flattened: dict[str, dict[tuple[str, ...], Any]] = {}
        self._named: dict[str, list[Record]] = {}
        self._using: dict[tuple[str, str], list[Record]] = {}
        for operation in {step.operation for step in plan.steps.values()}:
            for record in index.operations.get(operation, ()):
                if record.step:
                    self._named.setdefault(record.step, []).append(record)
                for key in set(record.inputs.values()):
                    self._using.setdefault((operation, key), []).append(record)

    def nearest(self, step: Step) -> Nearest | None:
        """Return the most similar artifact of this kind, the latest of equals; None if none is similar."""
        options = _flat(step.operation, step.options)
        keys = self._plan.input_keys(step)
        alike = []
        for record in self._candidates(step, keys.values()):
            differing = _differing(self._flat(record), options)
            inputs = tuple(r for r in {**keys, **record.inputs} if keys.get(r) != record.inputs.get(r))
            sections = {path[0] for path in differing}
            if record.step == step.name or (len(sections) <= 1 and len(inputs) < max(1, len(keys))):
                number = len(differing) + len(inputs) + (record.about.get("version") != step.version)
                alike.append(((number, record.key in self._planned), record, inputs))
        if not alike:
            return None
        (_, kept), record, inputs = min(alike, key=lambda item: item[0])
        return Nearest(record, self.changes(step, record), inputs, kept)

    def changes(self, step: Step, record: Record) -> tuple[Change, ...]:
        """Return the differences of a step's options and version from those of an artifact."""
        after, before = _flat(step.operation, step.options), self._flat(record)
        differing = _differing(before, after)
        # Options of two choices with different names are not compared.
        others = {path[:-1] for path in differing if path[-1] == "name"}
        changes = [
            Change(step.spec_path(path), before.get(path, _ABSENT), after.get(path, _ABSENT))
            for path in differing
            if path[-1] == "name" or not any(path[: len(other)] == other for other in others)
        ]
        if (version := record.about.get("version")) != step.version:
            changes.append(Change(f"version of autosparse's `{step.operation}`", version, step.version))
        return tuple(changes)

    def counted(self, step: Step, nearest: Nearest) -> tuple[Change, ...]:
        """Return the inputs of a step that are more or fewer than before, by the option that sets their number."""
        before, after = (Counter(role.partition(".")[0] for role in of) for of in (nearest.record.inputs, step.inputs))
        return tuple(
            Change(step.origins.get(f"{role}.*", f"inputs `{role}`"), before[role], after[role])
            for role in {**before, **after}
            if before[role] != after[role]
        )

    def origin(self, step: Step, nearest: Nearest) -> tuple[Step, tuple[Change, ...]] | None:
        """Return the step where the first differing input of a step comes from, and its changes."""
        for role in nearest.inputs:
            if role not in step.inputs or (before := self._index.find(nearest.record.inputs.get(role, ""))) is None:
                continue
            source = self._plan.steps[step.inputs[role]]
            if before.operation != source.operation:
                # A step of several possible operations, such as a scorer: one that learns has a name as an option.
                was, now = before.about["options"].get("name", before.operation), source.options.get("name")
                return source, (Change(role.partition(".")[0], was, now or source.operation),)
            if changes := self.changes(source, before):
                return source, changes
            others = tuple(r for r, key in self._plan.input_keys(source).items() if key != before.inputs.get(r))
            if origin := self.origin(source, Nearest(before, (), others)):
                return origin
        return None

    def _flat(self, record: Record) -> dict[tuple[str, ...], Any]:
        if record.key not in self._flattened:
            self._flattened[record.key] = _flat(record.operation, record.about["options"])
        return self._flattened[record.key]

    def _candidates(self, step: Step, keys: Any) -> Iterator[Record]:
        named = self._named.get(step.name, [])[:_NAMED]
        yield from named
        related = [record for key in keys for record in self._using.get((step.operation, key), ())[:200]]
        times = Counter(record.key for record in related)
        yield from sorted({r.key: r for r in related}.values(), key=lambda record: -times[record.key])[:_RELATED]
        if not named:
            yield from self._index.operations.get(step.operation, ())[:_LATEST]


def _differing(before: Mapping[tuple[str, ...], Any], after: Mapping[tuple[str, ...], Any]) -> list[tuple[str, ...]]:
    return [path for path in {**after, **before} if before.get(path, _ABSENT) != after.get(path, _ABSENT)]


def summarize_changes(changes: Sequence[Change], *, added: bool = False) -> str:
    """Summarize changes in a line: the first two, and the number of others. `added`: the old value exists, too."""
    parts = (f"{change.path}: {_short(change.after)} is new" if added else str(change) for change in changes[:2])
    text = ", ".join(parts)
    return text + (f" and {len(changes) - 2} more" if len(changes) > 2 else "")


def environment_changes(record: Record, environment: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return the differences from the environment that made an artifact: torch, processor, device or threads."""
    made = record.about.get("environment", {})
    changed = (name for name in SAME if name in made and made[name] != environment[name])
    return tuple(Change(name, made[name], environment[name]) for name in changed)


def _flat(operation: str, options: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    implied = {name for name, path in operations[operation].facts.get("spec_paths", {}).items() if not path}
    written = {name: value for name, value in options.items() if name not in implied}
    return {path: list(value) if isinstance(value, tuple) else value for path, value in leaves(written) if path}


def _short(value: Any) -> str:
    if value is _ABSENT:
        return "(not set)"
    if isinstance(value, str):
        return value[:8] if re.fullmatch("[0-9a-f]{64}", value) else value
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."
