"""Stale artifacts: those made from bytes that a later artifact of the same key has replaced.

Keys hash the inputs' keys, not their bytes: after a step was run again, an artifact made from its former bytes would be
reused. Each descriptor records the digests that its step consumed, so that a later call detects it too.
"""

from __future__ import annotations

from collections.abc import Collection

from autosparse.errors import DamagedArtifact
from autosparse.plan import Plan, Step
from autosparse.store import Store, digest, open_index


def files_of(store: Store, step: Step) -> str | None:
    """Return the digest of an artifact's files; None for one that cannot be trusted."""
    try:
        return digest(dict(store.open(step.operation, step.key).files))
    except DamagedArtifact:
        return None


def is_stale(store: Store, plan: Plan, step: Step) -> bool:
    """Return whether a step's artifact consumed other bytes than its inputs have now."""
    try:
        consumed = store.open(step.operation, step.key).descriptor.get("consumed", {})
    except DamagedArtifact:
        return False  # noticed when it is read
    inputs = {role: files_of(store, plan.steps[name]) for role, name in step.inputs.items()}
    return any(files is not None and consumed.get(role, files) != files for role, files in inputs.items())


def find_stale(store: Store, changed: Collection[Step]) -> dict[str, str]:
    """Find the artifacts of all plans that consumed other bytes than these steps have now: key -> step name."""
    digests = {step.key: files_of(store, step) for step in changed}
    stale = {}
    for record in open_index(store):
        current = {role: digests[key] for role, key in record.inputs.items() if key in digests}
        if current:
            consumed = store.open(record.operation, record.key).descriptor.get("consumed", {})
            if any(consumed.get(role, now) != now for role, now in current.items()):
                stale[record.key] = record.step
    return stale
