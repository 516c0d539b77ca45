"""Registry of formats for emitted models: a registered function maps a `Model` to file name -> bytes.

Facts of a format: `files`, their names; `exact`, whether outputs equal those of the network with the written tensors to
the last bit, or up to rounding; `extra`, the extra of autosparse that it needs; `gain`, why it may be no faster;
`others`, whether it reports other seeds and controls; `builds`, the cost of its creation in builds of the network.
`read` returns the model from the same files, and `fit` loads it into a network where loading a state is not enough;
`read` raises ValueError for bytes that are no such model. A format for another program has instead `run`, which returns
a function of images, and `opener`, that program.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from autosparse.registry import Registry

if TYPE_CHECKING:
    from autosparse.lazy_torch import torch


@dataclass(frozen=True)
class Model:
    """Pruned, trained network: its full state and its masks, by name.

    `network` builds it with any state, for formats that need more than tensors; `shape` is that of one image. `choices`
    maps layer -> batch size -> kernel, for formats that choose kernels. `about` is the content of a card: pruning,
    training, measurements, and the results of other seeds and controls.
    """

    state: "Mapping[str, torch.Tensor]"
    masks: "Mapping[str, torch.Tensor]"
    network: "Callable[[], torch.nn.Module] | None" = None
    shape: tuple[int, ...] = ()
    choices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


exporters: Registry[Callable[..., dict[str, bytes]]] = Registry("format", "formats")
BATCHES = (1, 32)
"""Batch sizes that a model is optimized for and timed with."""


def open_model(
    format: str, files: Mapping[str, bytes], network: "torch.nn.Module"
) -> "Callable[[torch.Tensor], torch.Tensor]":
    """Return a function of images `[images, channels, height, width]` from a format's files.

    `network` is the one that was pruned, freshly built. Raises ValueError for bytes that are no such model.
    """
    facts: Mapping[str, Any] = exporters[format].facts
    if "run" in facts:
        run: Callable[[torch.Tensor], torch.Tensor] = facts["run"](files)
        return run
    return fit(format, facts["read"](files), network)


def fit(format: str, model: Model, network: "torch.nn.Module") -> "torch.nn.Module":
    """Return a read model in a network of the pruned structure, in evaluation mode."""
    custom: Callable[[Model, torch.nn.Module], torch.nn.Module] | None = exporters[format].facts.get("fit")
    if custom is not None:
        return custom(model, network)
    from autosparse.core.weights import load_state

    return load_state(network, model.state).eval()
