"""Lookups in a plan: the network and the data that a step is about."""

from __future__ import annotations

from autosparse.core.irp import keep_after
from autosparse.core.training.loop import FEW
from autosparse.datasets import Source
from autosparse.models.facts import NetworkFacts, network_facts
from autosparse.plan.builder import blame
from autosparse.plan.model import Plan, Step
from autosparse.spec.choices import Choice
from autosparse.steps.data import DataResult
from autosparse.steps.init import InitResult
from autosparse.steps.irp import RoundResult


def network_of(plan: Plan, start: str) -> NetworkFacts:
    """The facts of the network that an `init` step makes."""
    step = plan.steps[start]
    about = step.options
    reach = step.access.get("model", about["model"])
    return network_facts(about["model"], reach["name"], reach["options"], tuple(about["shape"]), about["classes"])


def kernels_of(plan: Plan, step: Step, total: int) -> str:
    """The kernels that a step trains by; those for few weights by the share that masks leave of a network's `total`."""
    about = step.options
    if (kernels := about.get("training", {}).get("kernels", "dense")) != "sparse":
        return str(kernels)
    return "sparse" if _leaves_few(plan, step, total) else "dense"


def _leaves_few(plan: Plan, step: Step, total: int) -> bool:
    about = step.options
    if not step.gives(RoundResult):
        mask = plan.steps.get(step.inputs.get("mask", ""))
        return mask is not None and 1 - mask.options.get("sparsity", 0.0) <= FEW
    rounds = about["number"] - 1
    left = keep_after(total, about["per_round"], rounds, about.get("per_round_of", "remaining")) if rounds else total
    return left <= FEW * total


def subject_of(plan: Plan, step: Step) -> tuple[str, Source] | None:
    """The `init` step and the data that a step is about: its own inputs', or those of the first step that it needs.

    None where the data are not there yet.
    """
    if step.gives(InitResult):
        data = next((s.inputs["data"] for s in plan.steps.values() if s.inputs.get("init") == step.name), None)
        start = step.name
    elif step.gives(DataResult):
        data = step.name
        start = next((s.inputs["init"] for s in plan.steps.values() if s.inputs.get("data") == data), "")
    else:
        at = step
        while "init" not in at.inputs and at.inputs:
            at = plan.steps[next(iter(at.inputs.values()))]
        if not at.inputs:  # a pretrained scorer belongs to no network: any does
            at = plan.steps[plan.cells[0].train]
        start, data = at.inputs.get("init", ""), at.inputs.get("data")
    source = plan.sources.get(data or "")
    if not start or source is None or not source.known:
        return None
    return start, source


def facts_of(start: Step, model: Choice) -> NetworkFacts:
    """The network of an `init` step on paper. Raises UsageError when it cannot be built for the images."""
    about = start.options
    with blame("model"):
        return network_facts(about["model"], model.name, model.options(), tuple(about["shape"]), about["classes"])
