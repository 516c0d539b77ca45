"""A plan as JSON: the output of `plan --json`, kept in the folder of a run."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from autosparse.cost.fitted import Fitted
from autosparse.cost.sharing import Shared, paybacks
from autosparse.plan.budgets import translations
from autosparse.plan.status import count, missing_data, missing_libraries

_ESTIMATE = ("seconds", "peak_bytes", "disk_bytes", "basis")


def plan_json(fitted: Fitted, sharing: Shared | None = None) -> dict[str, Any]:
    """Every step with its status, reason and estimate, and what they come to together."""
    plan, statuses, price = fitted.plan, fitted.statuses, fitted.price
    steps = []
    for step in plan.steps.values():
        status, estimate = statuses[step.name], price.steps.get(step.name)
        steps.append(
            {
                "name": step.name,
                "operation": step.operation,
                "purpose": step.purpose,
                "key": step.key,
                "status": status.status,
                "reason": status.reason,
                "changes": [change.json() for change in status.changes],
                "environment": [change.json() for change in status.environment],
                "after": list(status.because),
                "inputs": list(step.inputs.values()),
                "estimate": {name: estimate and getattr(estimate, name) for name in _ESTIMATE},
            }
        )
    left = fitted.left
    known = fitted.priced
    return {
        "schema_version": 1,
        "spec": plan.name,
        "budgets": plan.spec.model_dump(mode="json", include={"budget"})["budget"],
        "translations": None if (converted := translations(plan)) is None else [asdict(item) for item in converted],
        "datasets": [
            {"step": name, "reading": source.reading, "classes": list(source.class_names)}
            for name, source in plan.sources.items()
        ],
        "steps": steps,
        "summary": {
            **count(statuses),
            "seconds": round(fitted.seconds, 2) if known else None,
            "work_seconds": round(left.seconds, 2) if known else None,
            "workers": fitted.workers,
            "dense_trainings": round(left.seconds / price.dense, 2) if known and price.dense else None,
            "peak_bytes": left.peak_bytes if known else None,
            "disk_bytes": left.disk_bytes if known else None,
            "memory_bytes": None if math.isinf(fitted.memory) else fitted.memory,
            "fits": (fitted.problem is None) if known else None,
            "taken": [asdict(adjustment) for adjustment in fitted.adjustments],
            "compiling": [item.json() for item in paybacks(fitted)],
            "source": sharing and {"seconds": round(sharing.seconds, 2), "specs": sharing.specs},
        },
        "warnings": [problem for problem, _ in [*missing_data(plan, statuses), *missing_libraries(plan, statuses)]]
        + [*plan.warnings, *fitted.notes, *([fitted.problem.message] if fitted.problem else [])],
    }
