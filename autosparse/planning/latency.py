"""The latency tables of a plan: one for each batch size and number of threads that its budgets name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autosparse.backends import this_machine, version_of
from autosparse.errors import UsageError
from autosparse.planning.builder import Builder, blame
from autosparse.planning.model import PlannedBudget
from autosparse.spec import CONDITIONS, Spec
from autosparse.steps.init import START


def add_tables(
    build: Builder, spec: Spec, network: Mapping[str, str], budgets: Sequence[PlannedBudget]
) -> dict[str, str]:
    """Add the steps that measure this machine: name of a latency budget -> name of its step.

    All seeds share them: the values of weights change no time.
    """
    tables: dict[str, str] = {}
    for index, budget in enumerate(budgets):
        if budget.is_latency and budget.amount:
            with blame(f"budget.{index}"):
                options = _conditions(spec, dict(budget.amount.conditions))
            suffix = f"batch{options['batch']}-threads{options['threads']}"
            name = f"latency/{spec.model.short_name}/{suffix}"
            start = build.steps[network["init"]]
            structure = {part: value for part, value in start.options["model"].items() if part != START}
            about = {**options, "model": structure, **{part: start.options[part] for part in ("shape", "classes")}}
            tables[budget.name] = build.add(name, "latency", about, {}, "network", access=start.access)
    return tables


def _conditions(spec: Spec, asked: Mapping[str, Any]) -> dict[str, Any]:
    # The processor and the version are keyed: a table of others predicts nothing here.
    machine = this_machine()
    options = {**CONDITIONS, **asked}
    if options["threads"] is None:
        assert isinstance(spec.target.threads, int), "compile takes a resolved spec"
        options["threads"] = min(spec.target.threads, machine.cores)
    if options["threads"] > machine.cores:
        raise UsageError(
            f"{options['threads']} threads exceed the {machine.cores} cores of this machine", "a latency is of one call"
        )
    version = version_of(options["runtime"])
    return {**options, "runtime_version": version, "processor": machine.processor}
