"""The work of every step of a plan, counted before the machine is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from autosparse.core.irp import keep_after
from autosparse.core.scorers import groups_of, macs_of
from autosparse.core.training.loop import FEW
from autosparse.datasets import Source
from autosparse.planning.builder import scorer_of
from autosparse.planning.model import Plan, Step
from autosparse.steps import operations
from autosparse.steps.data import DataResult
from autosparse.steps.init import InitResult
from autosparse.steps.irp import RoundResult
from autosparse.steps.mask import makes_smaller
from autosparse.steps.workload import Counted, Facts, Workload, kind_of, longest_recipe, training_workload
from autosparse.store import digest

_COMPILER = 300 * 2**20  # bytes that a process holds after compiling; 240 MB were measured


@dataclass(frozen=True)
class Work:
    """The workload of a step, the digest of its kind, and an `init` step of the network that it runs, if any."""

    kind: str
    network: str | None
    load: Workload

    @property
    def held(self) -> str:
        """The digest of the memory of every phase: equal for steps whose peaks can be compared."""
        return digest([dict(phase) for phase in self.load.memory])


def count_work(plan: Plan) -> dict[str, Work]:
    """Count the work of every step with known data; a new network is traced."""
    works: dict[str, Work] = {}
    representative: dict[str, str] = {}
    scorer, options = scorer_of(plan.spec, plan.steps)
    groups = groups_of(scorer, options) if scorer else ()
    updates, warm_up = options.get("steps", 1), options.get("warm_up", 0)
    macs = macs_of(scorer, options) if scorer else (0, 0)
    consumers = _consumers(plan)
    for name, step in plan.steps.items():
        if not (subject := _subject_of(plan, step, consumers)):
            continue
        start, source = subject
        network = plan.steps[start].network.facts
        representative.setdefault(network.identity, start)
        kernels = _kernels_of(plan, step, network.total)
        share = _share_of(plan, step, network.macs)
        facts = Facts(tuple(step.inputs), network, source, groups, updates, warm_up, kernels, *macs, share)
        load = operations[step.operation].facts["cost"](step.options, facts)
        kind = kind_of(step.operation, step.version, facts, load)
        works[name] = Work(kind, representative[network.identity] if load.runs_network else None, load)
    return _with_compiler(works)


def count_dense_training(plan: Plan) -> Counted | None:
    """Count one training of the spec's dense network by its recipe; None while the data are missing.

    The unit of cost: the plan need not train the dense network.
    """
    step = plan.steps[plan.cells[0].train]
    if not (subject := _subject_of(plan, step, {})):
        return None
    start, source = subject
    facts = Facts((), plan.steps[start].network.facts, source)
    return training_workload({"training": longest_recipe(step.options)}, facts).counted


def _consumers(plan: Plan) -> dict[tuple[str, str], Step]:
    # Role and name of a network or a dataset -> the first step that reads it.
    roles = ((role, other) for other in reversed([*plan.steps.values()]) for role in ("init", "data"))
    return {(role, other.inputs[role]): other for role, other in roles if role in other.inputs}


def _subject_of(plan: Plan, step: Step, consumers: Mapping[tuple[str, str], Step]) -> tuple[str, Source] | None:
    # The `init` step and the data of the step, of its first input with them, or of one of its consumers.
    # None while the data are missing.
    about: Step | None = step
    if role := "init" if step.gives(InitResult) else "data" if step.gives(DataResult) else "":
        about = consumers.get((role, step.name))
    while about and about.inputs and "init" not in about.inputs:
        about = plan.steps[next(iter(about.inputs.values()))]
    if about and not about.inputs:  # a pretrained scorer belongs to no network: any network serves
        about = plan.steps[plan.cells[0].train]
    if about is None or "init" not in about.inputs:
        return None
    source = plan.sources.get(about.inputs.get("data", ""))
    return (about.inputs["init"], source) if source and source.known else None


def _kernels_of(plan: Plan, step: Step, total: int) -> str:
    # Sparse kernels apply by the share of a network's `total` that masks leave.
    kernels = str(step.options.get("training", {}).get("kernels", "dense"))
    return kernels if kernels != "sparse" or _leaves_few(plan, step, total) else "dense"


def _leaves_few(plan: Plan, step: Step, total: int) -> bool:
    about = step.options
    if not step.gives(RoundResult):
        mask = plan.steps.get(step.inputs.get("mask", ""))
        return mask is not None and 1 - mask.options.get("sparsity", 0.0) <= FEW
    left = keep_after(total, about["per_round"], about["number"] - 1, about["per_round_of"])
    return left <= FEW * total


def _share_of(plan: Plan, step: Step, macs: int) -> float:
    # The share of the dense network's multiply-adds in the network of a step, which lacks whole channels; the largest
    # of the networks that a step may choose from.
    masks = [name for role, name in step.inputs.items() if role.partition(".")[0] == "mask"]
    return max((_share_under(plan, name, macs) for name in masks), default=1.0)


def _share_under(plan: Plan, name: str, macs: int) -> float:
    mask = plan.steps.get(name)
    while mask is not None and "method" not in mask.options:  # a shuffled mask
        mask = plan.steps.get(mask.inputs.get("mask", ""))
    if mask is None or not makes_smaller(mask.options["method"]):
        return 1.0
    budget = mask.options.get("budget") or {}
    if latency := budget.get("latency"):  # time is about in proportion; a number of seconds is of an unknown whole
        return float(Fraction(latency)) if isinstance(latency, str) else 1.0
    return min(1.0, budget["macs"] / max(1, macs)) if "macs" in budget else 1 - float(mask.options["sparsity"])


def _with_compiler(works: dict[str, Work]) -> dict[str, Work]:
    # After a process has compiled, every step in it carries the memory of torch's compiler.
    if all(work.load.kernels != "compiled" for work in works.values()):
        return works

    def grown(phase: Mapping[str, float]) -> dict[str, float]:
        return {**phase, "bytes": phase.get("bytes", 0.0) + _COMPILER}

    return {
        name: replace(work, load=replace(work.load, memory=tuple(map(grown, work.load.memory))))
        for name, work in works.items()
    }
