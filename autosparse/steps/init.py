"""init: a network's initial state, with the data to rebuild the network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from autosparse.core.torch_compat.random_state import seeded
from autosparse.core.weights import Tensors, load_state, prunable_weights, state_of, unprunable
from autosparse.errors import StepError
from autosparse.lazy_torch import torch
from autosparse.models import build_model, split_start
from autosparse.models.facts import check_network
from autosparse.steps._base import Content, Context, Count, KeyedChoice, Positive, StateResult, finite, operations
from autosparse.steps.tickets.orders import TicketResult
from autosparse.steps.workload import LINE, Facts, Workload
from autosparse.text import listed
from autosparse.user_code import label, sources

START = "start"
"""The part of a keyed model that identifies trained weights; the rest describes the network's structure."""


@dataclass(frozen=True)
class InitResult(StateResult):
    """The keyed model, its input shape (channels, height, width) and classes, and the sizes of prunable weights."""

    FILE: ClassVar[str] = "network"
    model: KeyedChoice
    shape: tuple[Positive, Positive, Positive]
    classes: Positive
    layers: dict[str, Count]
    unprunable: dict[str, str]
    """parameter that is not prunable -> reason"""
    notes: tuple[str, ...] = ()
    """differences from the trained weights that the network starts from, if any"""

    def check(self) -> None:
        """Compare the network with the one that the step is asked for."""
        for name in ("model", "shape", "classes"):
            value = getattr(self, name)
            asked = self.asked.get(name, value)
            fits = asked == ([*value] if isinstance(value, tuple) else value) or asked == value
            self.require(fits, f"network.json: `{name}` is not that of the plan")

    @Content
    def state(self) -> Tensors:
        """Every parameter and buffer at initialization."""
        state = finite(self, "state")
        for name, size in self.layers.items():
            fits = name in state and state[name].numel() == size
            self.require(fits, f"state.safetensors: `{name}` has not the {size} weights of network.json")
        return state


def init_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of building a network and saving its state."""
    return Workload(
        {},
        {"step": 1, "build": 2, "bytes": facts.state_bytes},
        ({"bytes": 3 * facts.state_bytes},),
        facts.state_bytes + LINE + 100 * len(facts.network.layers),
    )


@operations.register(result=InitResult, cost=init_cost, spec_paths={"seed": "seeds"})
def init(context: Context, *, model: dict[str, Any], shape: tuple[int, int, int], classes: int, seed: int) -> None:
    """Initialize a network for inputs of `shape` (channels, height, width) at a seed.

    Trained weights replace the random ones, and so does what fits of input `ticket`.
    """
    name, options = find_model(context, model)
    channels, height, width = shape  # a list in JSON
    with seeded(seed):
        network = build_model(name, options, (channels, height, width), classes)
    notes: tuple[str, ...] = ()
    if START in model:
        given = context.access[START]
        _, weights = split_start(given["name"], given["options"])
        assert weights is not None, "the plan reads the same options"
        notes = weights.load(network, model[START], (channels, height, width), classes)
    if "ticket" in context.inputs:
        notes = (*notes, *_start_from(network, TicketResult.read(context.inputs["ticket"])))
    check_network(label(name), network, (channels, height, width), classes)
    state = state_of(network)
    if "sources" in model:  # user code may draw its shapes
        with seeded(seed + 1):
            _check_shapes(label(name), state, state_of(build_model(name, options, (channels, height, width), classes)))
    broken = [name for name, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if broken:
        raise StepError(f"model `{label(name)}` initializes {broken[0]} with values that are not finite")
    layers = {name: weight.numel() for name, weight in prunable_weights(network).items()}
    result = InitResult(model, (channels, height, width), classes, layers, unprunable(network), notes)
    result.write(context.output, state=state)


def _start_from(network: torch.nn.Module, ticket: TicketResult) -> Iterator[str]:
    # Load what fits of a ticket, and name the tensors that keep the seed's initialization.
    state = state_of(network)
    fitted = ticket.fitted(state).state
    if not fitted:
        raise StepError("no tensor of the ticket fits this network", "take a ticket of the same family of networks")
    load_state(network, {**state, **fitted})
    if new := [name for name in state if name not in fitted]:
        yield f"not in the ticket, so initialized at the seed: {listed(new)}"


def _check_shapes(name: str, state: Tensors, other: Tensors) -> None:
    # Every step builds the network again, at any seed, and loads its state.
    for part in dict.fromkeys([*state, *other]):
        first, second = (tuple(some[part].shape) if part in some else None for some in (state, other))
        if first != second:
            raise StepError(
                f"model `{name}` builds another network at each seed: {part} is {first or 'absent'} and then "
                f"{second or 'absent'}",
                "shapes may depend on the factory's options, not on random numbers",
            )


def find_model(context: Context, model: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return the name and options by which this machine reaches a keyed model.

    Raises StepError if user code has changed since the plan.
    """
    reach = context.access.get("model", model)
    name = reach["name"]
    if "sources" in model and sources(name) != model["sources"]:
        raise StepError(f"`{label(name)}` has changed since it was planned", "run again: the plan is compiled again")
    return name, reach["options"]
