"""init: a network's initial state, and what it takes to build the network again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autosparse.core.torch_compat.random_state import seeded
from autosparse.core.weights import prunable_weights, state_of, unprunable
from autosparse.errors import StepError
from autosparse.models import build_model
from autosparse.models.trace import check_network
from autosparse.steps._base import operations
from autosparse.steps.context import Work, find_model
from autosparse.steps.workload import LINE, Facts, Workload, costs
from autosparse.user_code import label


@operations.register(version=1, spec_paths={"seed": "seeds"})
def init(work: Work, *, model: dict[str, Any], shape: tuple[int, int, int], classes: int, seed: int) -> None:
    """Initialize a network for inputs of `shape` (channels, height, width) at a seed."""
    name, options = find_model(work, model)
    channels, height, width = shape  # a list in JSON
    with seeded(seed):
        network = build_model(name, options, (channels, height, width), classes)
    check_network(label(name), network, (channels, height, width), classes)
    state = state_of(network)
    broken = [name for name, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if broken:
        raise StepError(f"model `{label(name)}` initializes {broken[0]} with values that are not finite")
    work.output.write_tensors("state", state)
    layers = {name: weight.numel() for name, weight in prunable_weights(network).items()}
    work.output.write_json(
        "network",
        {"model": model, "shape": shape, "classes": classes, "layers": layers, "unprunable": unprunable(network)},
    )


@costs.register(name="init")
def init_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of building a network and saving its state."""
    return Workload(
        {},
        {"step": 1, "build": 2, "bytes": facts.state_bytes},
        ({"bytes": 3 * facts.state_bytes},),
        facts.state_bytes + LINE + 100 * len(facts.network.layers),
    )
