"""What a plan finds in the store: for every step `reuse` or `run`, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autosparse.backends import Machine
from autosparse.core.weights import keep_count
from autosparse.errors import DamagedArtifact, UsageError
from autosparse.plan.compile import Plan
from autosparse.store import Store


@dataclass(frozen=True)
class Status:
    """`reuse` or `run`, and the reason in a few words."""

    status: str
    reason: str


def statuses(plan: Plan, store: Store) -> dict[str, Status]:
    """Step name -> status. Presence only: bytes are checked when they are read."""
    return {
        name: Status("reuse", "in the cache") if store.has(step.operation, step.key) else Status("run", "not made yet")
        for name, step in plan.steps.items()
    }


def count(found: Mapping[str, Status]) -> dict[str, int]:
    """How many steps run, are reused, are resumed."""
    return {kind: sum(status.status == kind for status in found.values()) for kind in ("run", "reuse", "resume")}


def missing_data(plan: Plan, found: Mapping[str, Status]) -> list[tuple[str, str]]:
    """What datasets lack that steps to run need, and how to get it."""
    absent = []
    for name, source in plan.sources.items():
        if found[name].status == "run" and not source.fetches and (problem := source.missing()):
            absent.append(problem)
    return absent


def missing_device(plan: Plan, machine: Machine) -> list[tuple[str, str]]:
    """What the target's device lacks on this machine, and what to do about it."""
    device = plan.spec.target.device
    if device.partition(":")[0] in machine.devices:
        return []
    return [(f"this machine has no device {device}", "`--set target.device=auto` takes the best there is")]


def check_budget(plan: Plan, store: Store) -> None:
    """Refuse a sparsity that leaves a network fewer weights than layers, as soon as the network is known.

    Raises UsageError with the highest sparsity that is possible.
    """
    for name in dict.fromkeys(plan.steps[cell.train].inputs["init"] for cell in plan.cells):
        step = plan.steps[name]
        if not store.has(step.operation, step.key):
            continue
        try:
            sizes = store.open(step.operation, step.key).json("network")["layers"]
        except DamagedArtifact:
            continue  # a run makes it again and looks again
        total = sum(sizes.values())
        for sparsity in plan.spec.budget:
            if (keep := keep_count(total, sparsity)) < len(sizes):
                raise UsageError(
                    f"sparsity {sparsity} leaves {keep} of {total} weights for the {len(sizes)} layers of "
                    f"{plan.spec.model.short_name}",
                    f"the highest that leaves one a layer is {1 - len(sizes) / total:.6f}",
                )


def plan_json(plan: Plan, found: Mapping[str, Status]) -> dict[str, Any]:
    """The plan as `plan --json` prints it."""
    return {
        "schema_version": 1,
        "spec": plan.name,
        "budgets": list(plan.spec.budget),
        "steps": [
            {
                "name": step.name,
                "operation": step.operation,
                "key": step.key,
                "status": found[step.name].status,
                "reason": found[step.name].reason,
                "inputs": list(step.inputs.values()),
                "estimate": {"seconds": None, "peak_bytes": None, "disk_bytes": None},
            }
            for step in plan.steps.values()
        ],
        "summary": {**count(found), "seconds": None, "fits": None},
        "warnings": [problem for problem, _ in missing_data(plan, found)],
    }
