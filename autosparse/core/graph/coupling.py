"""Coupled channels: the parts of all tensors that leave a network together, so that it stays a working network.

The network is read as `torch.export` records it. Channels that are added, multiplied, normalized, attended to or
rearranged together form one group of slices; each channel of a group may go alone.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

from autosparse.borders import border, refusal
from autosparse.core.graph import channel_moves  # noqa: F401 -- registers its rules
from autosparse.core.graph.channel_labels import CONSTANT
from autosparse.core.graph.channel_registry import RULES
from autosparse.core.graph.channel_rules import otherwise
from autosparse.core.graph.channel_walk import BORDERS, Axis, Walk
from autosparse.core.inputs import Inputs, arguments, tensors_in
from autosparse.core.weights import prunable_weights, unprunable
from autosparse.lazy_torch import torch


@dataclass(frozen=True)
class Slice:
    """The elements of a parameter or buffer that belong to the channels of a group, along one dimension.

    `index` is int64 `[channels, width]`. `reads` is true for weights that read the channels, false for those that
    compute or scale them.
    """

    tensor: str
    dim: int
    index: torch.Tensor
    reads: bool


@dataclass(frozen=True)
class ChannelGroup:
    """Channels with slices of the same tensors, named after the first module that computes them.

    `modules` are those whose code rearranges the channels, such as the heads of an attention. Attributes of theirs that
    hold a multiple of the number of channels follow it: multiples from `multiple` on, none at 0.
    """

    name: str
    channels: int
    slices: tuple[Slice, ...]
    modules: tuple[str, ...] = ()
    multiple: int = 2


@dataclass(frozen=True)
class Coupling:
    """All groups of a network, in model order, and the reason for every weight that computes channels that stay."""

    groups: tuple[ChannelGroup, ...]
    whole: Mapping[str, str]


def couple(network: torch.nn.Module, example: Inputs) -> Coupling:
    """Return the groups of coupled channels of a network in evaluation mode, `example` being a batch of inputs.

    Raises ValueError for a network that `torch.export` cannot record.
    """
    with border(refusal("torch.export does not record it")), _silent():
        recorded = torch.export.export(_tensors_of(network), *arguments(example)).run_decompositions({})
    weights = prunable_weights(network)
    kept = {name: why for name, why in unprunable(network).items() if _is_frozen_weight(network, name)}
    reasons = {name: f"they are coupled to `{name}`, which stays whole ({why})" for name, why in kept.items()}
    walk = Walk(network, recorded, reasons)
    walk.walk(RULES, otherwise)
    return Coupling(tuple(_groups(walk)), {name: why for name in weights if (why := _reason(walk, name))})


@contextmanager
def _silent() -> Iterator[None]:
    # torch logs and prints the whole program of a network that it cannot record.
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _tensors_of(network: torch.nn.Module) -> torch.nn.Module:
    # Networks of transformers return objects that torch.export does not know, such as caches, next to tensors.
    class Tensors(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.training = network.training

        def forward(self, *positional: Any, **named: Any) -> list[torch.Tensor]:
            return [*tensors_in(self.network(*positional, **named))]

    return Tensors()


def _is_frozen_weight(network: torch.nn.Module, name: str) -> bool:
    # True for a weight of two dimensions or more that masks do not cover: it would read channels that are gone.
    parameter = dict(network.named_parameters(remove_duplicate=False)).get(name)
    module = network.get_submodule(name.rpartition(".")[0])
    layers = torch.nn.Linear | torch.nn.modules.conv._ConvNd
    return parameter is not None and parameter.ndim > 1 and isinstance(module, layers)


def _groups(walk: Walk) -> list[ChannelGroup]:
    slices: dict[int, dict[Axis, list[int]]] = {}
    order = {name: number for number, name in enumerate(walk.names)}
    for axis in sorted(walk.axes, key=lambda axis: (order[axis[0]], axis[1])):
        for index, root in enumerate(walk.labels.roots(walk.axes[axis]).tolist()):
            if root != CONSTANT:
                slices.setdefault(root, {}).setdefault(axis, []).append(index)
    alike: dict[Any, list[int]] = {}
    for root, parts in slices.items():
        alike.setdefault(tuple((axis, len(index)) for axis, index in parts.items()), []).append(root)
    groups = []
    for signature, roots in alike.items():
        made = tuple(
            Slice(axis[0], axis[1], torch.tensor([slices[root][axis] for root in roots]), axis in walk.reads)
            for axis, _ in signature
        )
        giving = next((part for part in made if not part.reads), made[0])
        members = {*roots}
        modules = tuple(
            dict.fromkeys(
                module for module, labels in walk.owners if members & {*walk.labels.roots(labels).unique().tolist()}
            )
        )
        groups.append(ChannelGroup(giving.tensor.rpartition(".")[0] or giving.tensor, len(roots), made, modules))
    return groups


def _reason(walk: Walk, name: str) -> str:
    # The reason if the channels that a weight computes are part of no group, and are no outputs of the network; or else
    # if those that it reads are part of none either.
    axes = sorted((axis for axis in walk.axes if axis[0] == walk.first(name)), key=lambda axis: axis in walk.reads)
    if not axes:
        changed = "other operations change it before its layer uses it"
        return walk.whole.get(walk.first(name), changed) if name in walk.used else "evaluation does not use it"
    leaving = [axis for axis in axes if bool((walk.labels.roots(walk.axes[axis]) != CONSTANT).any())]
    computed = [axis for axis in axes if axis not in walk.reads] or axes
    if {*leaving} & {*computed}:
        return ""
    roots = [walk.labels.root(label) for axis in (computed if leaving else axes) for label in walk.axes[axis].tolist()]
    reasons = dict.fromkeys(walk.labels.reasons[root] for root in roots if root in walk.labels.reasons)
    return next((why for why in reasons if why not in BORDERS), "" if leaving else next(iter(reasons), ""))
