"""What a call of a run did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autosparse.plan import Plan, Status


@dataclass
class Outcome:
    """What a call did: step name -> `run`, `resume` or `reuse`, and the seconds it took in all.

    `changed` are steps that were made again and gave other bytes; `stale` are artifacts, of this plan or another, that
    were made from the bytes before and are left as they are: key -> step name.
    """

    steps: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    changed: list[str] = field(default_factory=list)
    stale: dict[str, str] = field(default_factory=dict)

    def count(self, status: str) -> int:
        return sum(found == status for found in self.steps.values())


def made_json(plan: Plan, before: Mapping[str, Status], outcome: Outcome) -> dict[str, Any]:
    """What a call did that does not finish a plan, as `run --only --json` prints it."""
    missing = [name for name, status in before.items() if status.status != "reuse" and name not in outcome.steps]
    return {
        "schema_version": 1,
        "spec": plan.name,
        "run": None,
        "steps": {kind: outcome.count(kind) for kind in ("run", "reuse", "resume")},
        "seconds": round(outcome.seconds, 2),
        "made": [name for name, status in outcome.steps.items() if status != "reuse"],
        "reused": [name for name, status in outcome.steps.items() if status == "reuse"],
        "changed": outcome.changed,
        "stale": list(outcome.stale.values()),
        "missing": missing,
    }
