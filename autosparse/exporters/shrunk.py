"""A smaller ordinary network: the pruned one without its dead channels."""

from __future__ import annotations

from collections.abc import Mapping

from autosparse.core.graph.shrink import resize
from autosparse.core.graph.shrink import shrink as without_dead
from autosparse.core.weights import load_state, state_of
from autosparse.exporters._base import Model, exporters
from autosparse.lazy_torch import torch
from autosparse.store import dump_tensors, load_tensors

FILE = "model.shrunk.safetensors"


def read(files: Mapping[str, bytes]) -> Model:
    """The tensors that `shrunk` wrote. Raises ValueError for bytes that are none."""
    state = load_tensors(files[FILE])
    return Model(state, {name: t != 0 for name, t in state.items() if name.endswith("weight") and t.ndim > 1})


def fit(model: Model, network: torch.nn.Module) -> torch.nn.Module:
    """A copy of the network that was pruned, its layers made smaller. Raises ValueError for tensors of another."""
    return resize(network, model.state)


def smaller(model: Model, *, shrink: bool = True) -> torch.nn.Module:
    """The pruned network with its state, in evaluation mode, without its dead channels if asked.

    Raises ValueError for a network that cannot be read.
    """
    assert model.network is not None
    network = load_state(model.network(), model.state).cpu().eval()
    return resize(network, without_dead(network, torch.zeros(2, *model.shape))) if shrink else network


@exporters.register(read=read, fit=fit, files=(FILE,), exact=False, builds=10, gain="too few channels are dead")
def shrunk(model: Model) -> dict[str, bytes]:
    """`model.shrunk.safetensors`: the state of a smaller ordinary network, without channels that carry nothing.

    `autosparse.load` makes the layers smaller and puts it in. As many channels go as the masks have left dead.
    """
    return {FILE: dump_tensors(state_of(smaller(model)))}
