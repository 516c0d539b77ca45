"""ticket: initial weights with an order of all weights, for other networks to start from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from autosparse.core.ticket import in_order
from autosparse.core.weights import total_of
from autosparse.errors import StepError
from autosparse.steps._base import Context, operations
from autosparse.steps.init import InitResult
from autosparse.steps.irp import RewindResult, RoundResult
from autosparse.steps.tickets.orders import StagesResult, TicketResult
from autosparse.steps.workload import LINE, Facts, Workload


def ticket_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of reading a search or rounds and saving the initial weights with an order."""
    size, rounds = facts.state_bytes + 4 * facts.network.total, facts.count("round")
    read = 5 * facts.network.total * max(1, rounds)
    return Workload({}, {"step": 1, "bytes": read + size}, ({"bytes": read + 2 * size},), size + LINE)


@operations.register(result=TicketResult, cost=ticket_cost, spec_paths={"round.*": "irp.rounds"})
def ticket(context: Context) -> None:
    """Join the initial weights of input `init`, or `rewind`, with the order that input `order` or the rounds left."""
    start = InitResult.read(context.inputs["init"])
    state = RewindResult.read(context.inputs["rewind"]).state if "rewind" in context.inputs else start.state
    made_by: Literal["search", "irp"] = "search" if "order" in context.inputs else "irp"
    if made_by == "search":
        search = StagesResult.read(context.inputs["order"])
        order, sparsities = search.order, search.sparsities
    else:
        rounds = [RoundResult.read(artifact) for artifact in context.roles("round").values()]
        order = in_order([(result.masks, result.scores) for result in rounds])
        sparsities = [1 - result.kept / result.total for result in rounds]
    if {name: part.numel() for name, part in order.items()} != dict(start.layers):
        raise StepError("the order is not that of the network's weights")
    seed = int(start.asked["seed"])
    result = TicketResult(start.model, start.shape, start.classes, seed, total_of(order), made_by, sparsities)
    result.write(context.output, state=state, order=order)
