"""Plans of edited specs, and stores that look as if plans had been run."""

from __future__ import annotations

from pathlib import Path

from autosparse.backends import Machine, Place, environment
from autosparse.plan import Plan, Step, compile_plan
from autosparse.spec import load_spec, resolve
from autosparse.store import Store

DIGITS = Path(__file__).parent / "fixtures" / "digits.yaml"
"""A spec with every kind of step, which does not change as the one that ships does."""

MACHINE = Machine("a processor", cores=2, cpu_bfloat16=True, devices=("cpu",), cuda_bfloat16=False)


def compiled(path: Path | str, *overrides: str, name: str = "digits") -> Plan:
    """The plan of a spec on MACHINE, with overrides."""
    return compile_plan(resolve(load_spec(Path(path), overrides=overrides).spec, MACHINE), name)


def finish(plan: Plan, store: Store, *, threads: int = 2, but: tuple[str, ...] = ()) -> None:
    """Publish an artifact for every step, described as a run describes it."""
    for number, step in enumerate(plan.steps.values()):
        if step.name not in but and not store.has(step.operation, step.key):
            publish(store, plan, step, f"2026-01-01T00:{number // 60:02}:{number % 60:02}+00:00", threads)


def publish(store: Store, plan: Plan, step: Step, created: str = "2026-01-01T00:00:00+00:00", threads: int = 2) -> None:
    """Publish an artifact of one step."""
    store.publish(
        step.operation,
        step.key,
        lambda draft: draft.write("result.json", b"{}"),
        lambda: {
            "step": step.name,
            "spec": plan.name,
            "version": step.version,
            "options": step.options,
            "inputs": {role: plan.steps[name].key for role, name in step.inputs.items()},
            "environment": environment(Place("cpu", threads)),
            "seconds": 1.0,
            "created": created,
        },
    )
