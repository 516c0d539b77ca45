"""search_stages: one mask search for all budgets of a spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from autosparse.core.schedule import Search, search_in_stages
from autosparse.core.ticket import in_order
from autosparse.core.training.recipe import Recipe
from autosparse.core.weights import keep_count, kept, total_of
from autosparse.errors import StepError
from autosparse.steps._base import Context, operations
from autosparse.steps.context import gather_evidence, on_device
from autosparse.steps.irp import RewindResult
from autosparse.steps.mask import explaining, mask_cost, pruning_of
from autosparse.steps.tickets.orders import StagesResult
from autosparse.steps.workload import LINE, Facts, Workload


def stages_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of one search, with an order of all weights to save."""
    return replace(mask_cost(options, facts), disk_bytes=4 * facts.network.total + LINE)


@operations.register(result=StagesResult, cost=stages_cost, spec_paths={"sparsities": "budget", "seed": "seeds"})
def search_stages(
    context: Context, *, method: dict[str, Any], sparsities: list[float], training: dict[str, Any], seed: int
) -> None:
    """Learn nested masks for all `sparsities`, ascending, along one search by a method's choices.

    It begins with the weights of input `rewind`, if present, in place of the initial ones.
    """
    recipe = Recipe(**training)
    evidence = gather_evidence(context, seed=seed, recipe=recipe)
    if "rewind" in context.inputs:
        state = on_device(context, RewindResult.read(context.inputs["rewind"]).state)
        evidence = replace(evidence, trained=state).masked(evidence.masks)
    pruning, _, limit = pruning_of(context, method, evidence, recipe, sparsities[-1], None)
    total = total_of(evidence.weights)
    keeps = [keep_count(total, sparsity) for sparsity in sparsities]
    with explaining(method, limit):
        made = search_in_stages(pruning, keeps, Search(**method["schedule"]["options"]))
    counts = [kept(masks) for masks, _ in made]
    if not all(sum(count.values()) for count in counts):
        raise StepError("the search leaves no weight")
    result = StagesResult(total, sparsities, counts, context.notes)
    result.write(context.output, order=in_order([*made]))
