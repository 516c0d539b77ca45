"""Plans of edited specs, a machine of known speed, and stores that look as if plans had been run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from autosparse.backends import Machine, Placement, environment
from autosparse.cost.price import price
from autosparse.cost.rates import Calibration
from autosparse.measure.probe import Measurement
from autosparse.models.facts import Network
from autosparse.planning.compile import compile_plan
from autosparse.planning.model import Plan, Step
from autosparse.planning.status import statuses
from autosparse.spec import load_spec, resolve
from autosparse.store import Store, open_index

DIGITS = Path(__file__).parent / "fixtures" / "digits.yaml"
"""A spec with every kind of step, which does not change as the one that ships does."""

MACHINE_RATES = {
    "startup": 2.0, "base": 5e8, "private": 3e8, "select": 1e-8, "scorer": 1e-3, "step": 0.01, "bytes": 1e-9,
    "open": 1.0, "decoded": 1e-8,
}  # fmt: skip
NETWORK_RATES = {
    "build": 0.01, "train": 1e-4, "forward": 1e-5, "gradient": 1e-4, "flow": 0.01, "features": 1e-7,
    "train_bytes": 1e6, "compiled": 5e-5, "compiling": 4.0,
    "sparse": 5e-5, "forward_bytes": 1e5, "gradient_bytes": 2e6,
}  # fmt: skip
_KERNEL_RATES = {"sparse": {"sparse"}, "compiled": {"compiled", "compiling"}}

MACHINE = Machine("a processor", cores=2, cpu_bfloat16=True, devices=("cpu",), cuda_bfloat16=False)


def compiled(path: Path | str, *overrides: str, name: str = "digits") -> Plan:
    """The plan of a spec on MACHINE, with overrides."""
    return compile_plan(resolve(load_spec(Path(path), overrides=overrides).spec, MACHINE), name)


def known_rates(
    rates: Mapping[str, float | None] | None = None,
    *,
    probes: list[str] | None = None,
    slowdown: float = 1.0,
    idle_cores: int = 2,
    gain: float = 100.0,
) -> Calibration:
    """The calibration of a machine of known speed, with other `rates` by unit (None: not measured).

    `probes` records the calls of its probes; `slowdown` is that of every number of threads. Networks run at the known
    rates on two threads, and `gain` times as long on one.
    """
    recorded = [] if probes is None else probes
    changed = {**MACHINE_RATES, **NETWORK_RATES, **(rates or {})}

    def pick(units: Iterable[str]) -> dict[str, float]:
        return {unit: rate for unit in units if (rate := changed[unit]) is not None}

    def machine(placement: Placement, scorer: str, options: Mapping[str, Any]) -> Measurement:
        recorded.append("machine")
        return Measurement(pick(MACHINE_RATES))

    def network(network: Network, *about: Any) -> Measurement:
        recorded.append(network.name)
        others = {unit for kernels, units in _KERNEL_RATES.items() if kernels not in about for unit in units}
        known = pick(unit for unit in NETWORK_RATES if unit not in others)
        times = gain if about[-1].threads == 1 else 1.0
        return Measurement({u: rate if u.endswith("bytes") else times * rate for u, rate in known.items()})

    return Calibration(machine, network, lambda threads: slowdown, lambda: idle_cores)


def remember_rates(store: Store, spec: Path | str, *overrides: str, machine: Machine = MACHINE) -> None:
    """Remember known rates in a store for all that the plan of a spec needs."""
    plan = compile_plan(resolve(load_spec(Path(spec), overrides=overrides).spec, machine), "known")
    if machine.has(plan.spec.target.device):
        index = open_index(store)
        price(plan, store, index, statuses(plan, store, index), calibration=known_rates(gain=1.0))


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
            "environment": environment(Placement("cpu", threads)),
            "seconds": 1.0,
            "created": created,
        },
    )
