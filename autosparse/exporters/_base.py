"""Formats of emitted models: a registered function of a `Model` gives file name -> bytes.

What a format says of itself: `files`, their names; `exact`, whether outputs are equal to the last bit to those of the
network that has the tensors written, or up to rounding; `extra`, what of autosparse must be installed; `gain`, why it
may be no faster; `others`, whether it tells of other seeds and of controls; `builds`, how many times building the
network its making takes. Its `read` gives the model back from the same files, for `fit` to put into a network where
loading a state does not do; it raises ValueError for bytes that are no such model. A format that another program opens
has a `run` instead, which gives a function of images, and `opener`, that program.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from autosparse.registry import Registry

if TYPE_CHECKING:
    from autosparse.lazy_torch import torch


@dataclass(frozen=True)
class Model:
    """A pruned, trained network: its whole state and its masks, by name.

    `network` builds it, with whatever state, for formats that need more than tensors, and `shape` is that of one image;
    `choices` says which of its layers are computed how, where the format has a say: layer -> images at once -> way.
    `about` is what a card tells: how it was pruned, trained and measured, and what other seeds and controls came to.
    """

    state: "Mapping[str, torch.Tensor]"
    masks: "Mapping[str, torch.Tensor]"
    network: "Callable[[], torch.nn.Module] | None" = None
    shape: tuple[int, ...] = ()
    choices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


exporters: Registry[Callable[..., dict[str, bytes]]] = Registry("format", "formats")
BATCHES = (1, 32)
"""how many images at once a model is made for and timed with"""


def open_model(
    format: str, files: Mapping[str, bytes], network: "torch.nn.Module"
) -> "Callable[[torch.Tensor], torch.Tensor]":
    """What a format's files hold, as a function of images `[images, channels, height, width]`.

    `network` is the one that was pruned, freshly built. Raises ValueError for bytes that are no such model.
    """
    facts: Mapping[str, Any] = exporters[format].facts
    if "run" in facts:
        run: Callable[[torch.Tensor], torch.Tensor] = facts["run"](files)
        return run
    return fit(format, facts["read"](files), network)


def fit(format: str, model: Model, network: "torch.nn.Module") -> "torch.nn.Module":
    """A model that was read, in a network of the structure that was pruned; in evaluation mode."""
    custom: Callable[[Model, torch.nn.Module], torch.nn.Module] | None = exporters[format].facts.get("fit")
    if custom is not None:
        return custom(model, network)
    from autosparse.core.weights import load_state

    return load_state(network, model.state).eval()
