"""The explanation of one step: the chain of steps that its reason comes through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autosparse.errors import UsageError
from autosparse.plan.model import Plan
from autosparse.plan.status import Status
from autosparse.registry import suggestion


def chain(plan: Plan, statuses: Mapping[str, Status], name: str) -> list[str]:
    """The step and those whose own reason it has, down to where the reason lies. Raises UsageError for no step."""
    if name not in plan.steps:
        hint = suggestion(name, list(plan.steps)) or "`autosparse plan --steps` lists them"
        raise UsageError(f"this plan has no step `{name}`", hint)
    links = [name]
    while because := statuses[links[-1]].because:
        links.append(because[0])
    return links


def explained(plan: Plan, statuses: Mapping[str, Status], name: str) -> dict[str, Any]:
    """What is known of a step: its key, the artifact it is nearest to, its inputs, and what takes its result."""
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
