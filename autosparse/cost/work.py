"""The work of every step of a plan, counted before the machine is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from autosparse.core.scorers import groups_of
from autosparse.models.facts import NetworkFacts
from autosparse.plan.builder import scorer_options
from autosparse.plan.lookup import kernels_of, network_of, subject_of
from autosparse.plan.model import Plan
from autosparse.spec import Pretrained
from autosparse.steps import operations
from autosparse.steps.workload import Facts, Workload, kind_of
from autosparse.store import digest

_COMPILER = 300 * 2**20  # that a process holds once it has compiled; 240 MB were measured


@dataclass(frozen=True)
class Work:
    """The workload of a step in a plan.

    `kind` is the digest of the kind of work; `network` names an `init` step of the same structure, or is None where
    no network runs.
    """

    kind: str
    network: str | None
    load: Workload

    @property
    def held(self) -> str:
        """The digest of the memory of every phase: equal for steps whose peaks can be compared."""
        return digest([dict(phase) for phase in self.load.memory])


def count_work(plan: Plan) -> dict[str, Work]:
    """Count the work of every step whose network is known; a network never seen before is traced.

    Steps whose data are missing are left out: neither the shape nor the number of the images is known.
    """
    networks: dict[str, NetworkFacts] = {}
    works: dict[str, Work] = {}
    representative: dict[str, str] = {}
    groups, scorer = _feature_groups(plan), plan.spec.scorer
    updates = 1 if isinstance(scorer, Pretrained) else scorer.options().get("steps", 1)
    warm_up = scorer_options(plan.spec, plan.steps).get("warm_up", 0)
    for name, step in plan.steps.items():
        if not (subject := subject_of(plan, step)):
            continue
        start, source = subject
        if start not in networks:
            networks[start] = network_of(plan, start)
            representative.setdefault(networks[start].identity, start)
        network = networks[start]
        kernels = kernels_of(plan, step, network.total)
        facts = Facts(tuple(step.inputs), network, source, groups, updates, warm_up, kernels)
        load = operations[step.operation].facts["cost"](step.options, facts)
        kind = kind_of(step.operation, step.version, facts, load)
        works[name] = Work(kind, representative[network.identity] if load.runs_network else None, load)
    return _with_compiler(works)


def _with_compiler(works: dict[str, Work]) -> dict[str, Work]:
    # Once a process has compiled, every step in it holds what torch's compiler keeps.
    if all(work.load.kernels != "compiled" for work in works.values()):
        return works

    def grown(phase: Mapping[str, float]) -> dict[str, float]:
        return {**phase, "bytes": phase.get("bytes", 0.0) + _COMPILER}

    return {
        name: replace(work, load=replace(work.load, memory=tuple(map(grown, work.load.memory))))
        for name, work in works.items()
    }


def _feature_groups(plan: Plan) -> tuple[str, ...]:
    scorer = plan.spec.scorer
    if isinstance(scorer, Pretrained):
        return tuple(plan.steps["scorer"].options["scorer"]["features"]) if "scorer" in plan.steps else ()
    return groups_of(scorer.name, scorer.options())
