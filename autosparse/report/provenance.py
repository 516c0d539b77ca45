"""Provenance of a run: its plan, the recipe of its networks, and the environments that made its artifacts."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from typing import Any

from autosparse.report.finished import Finished
from autosparse.report.schema import Environment, Provenance

_FACTS = tuple(field.name for field in fields(Environment) if field.name != "steps")


def describe_provenance(finished: Finished) -> Provenance:
    """Return the provenance of a plan's finished steps; cached artifacts may come from other environments."""
    steps: Counter[tuple[Any, ...]] = Counter()
    times = []
    for step in finished.steps():
        about = finished.open(step.name).descriptor
        times.append(str(about.get("created", "")))
        if made := about.get("environment"):
            steps[tuple(made.get(name) for name in _FACTS)] += 1
    environments = [
        Environment(**dict(zip(_FACTS, facts, strict=True)), steps=count)
        for facts, count in steps.most_common()
        if None not in facts
    ]
    spec = finished.plan.spec
    return Provenance(
        finished=max(times, default=""),
        digest=finished.plan.digest,
        seeds=list(spec.seeds),
        recipe=spec.model_dump(mode="json")["training"],
        environments=environments,
    )
