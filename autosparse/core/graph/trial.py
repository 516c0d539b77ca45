"""Trial of coupled channels: the network must run without some of a group's channels, with equal outputs."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from autosparse.borders import is_out_of_memory
from autosparse.core.graph.coupling import ChannelGroup, Coupling, couple
from autosparse.core.graph.shrink import same_outputs
from autosparse.core.graph.slicing import sliced, slicing_of
from autosparse.core.inputs import Inputs, call, noise_like
from autosparse.lazy_torch import torch

_FIXED = "its code fixes their number"
_SINGLE = "they leave together or not at all"


def find_groups(network: torch.nn.Module, example: Inputs) -> Coupling:
    """Return the groups whose channels may leave one by one, as a trial of a network in evaluation mode confirms.

    Random values in place of all parameters show every dependence, also where a branch begins at zero. Raises
    ValueError for a network that `torch.export` cannot record or that does not run.
    """
    coupling = couple(network, example)
    single = [group for group in coupling.groups if group.channels < 2]
    several = [group for group in coupling.groups if group.channels > 1]
    trial = _Trial(network, example)
    fits: dict[str, ChannelGroup] = {}
    for group in trial.confirm(several):
        fits[group.name] = group
    whole = dict(coupling.whole)
    for group in (*single, *(group for group in several if group.name not in fits)):
        why = _SINGLE if group.channels < 2 else _FIXED
        whole |= {part.tensor: why for part in group.slices if not part.reads and part.tensor.endswith("weight")}
    return Coupling(tuple(fits[group.name] for group in several if group.name in fits), whole)


class _Trial:
    def __init__(self, network: torch.nn.Module, example: Inputs) -> None:
        self.network = _scrambled(network)
        self.inputs = noise_like(example)
        with torch.no_grad():
            call(self.network, self.inputs)  # raises for a network that does not run

    def confirm(self, groups: Sequence[ChannelGroup]) -> list[ChannelGroup]:
        """Return the groups that stand the trial, halving those that fail together."""
        if not groups:
            return []
        for totals in (True, False):
            candidates = [replace(group, totals=totals) for group in groups]
            if self._stands(candidates):
                return candidates
        if len(groups) == 1:
            return []
        kinds: dict[tuple[type, ...], list[ChannelGroup]] = {}
        for group in groups:
            kinds.setdefault(tuple(type(self.network.get_submodule(name)) for name in group.modules), []).append(group)
        if len(kinds) > 1:
            return [group for alike in kinds.values() for group in self.confirm(alike)]
        if not (first := self.confirm(groups[:1])) and groups[0].modules:
            return []  # the code of one class of modules
        middle = (len(groups) + 1) // 2
        return [*first, *self.confirm(groups[1:middle]), *self.confirm(groups[middle:])]

    def _stands(self, groups: Sequence[ChannelGroup]) -> bool:
        generator = torch.Generator("cpu").manual_seed(0)
        channels = {group.name: _some(group.channels, generator) for group in groups}
        try:
            with torch.no_grad():
                expected = call(without(self.network, groups, channels), self.inputs)
                smaller = call(sliced(self.network, slicing_of(self.network, groups, channels)), self.inputs)
        except Exception as error:  # its code hard-codes sizes
            if is_out_of_memory(error):
                raise
            return False
        return same_outputs(expected, smaller)


def without(
    network: torch.nn.Module, groups: Sequence[ChannelGroup], channels: Mapping[str, torch.Tensor]
) -> torch.nn.Module:
    """Return a copy of a network whose weights of removed channels are zero."""
    masked = copy.deepcopy(network)
    with torch.no_grad():
        for group in groups:
            gone = ~channels[group.name]
            for part in group.slices:
                parameter = masked.get_parameter(part.tensor) if _is_parameter(masked, part.tensor) else None
                if parameter is not None and parameter.ndim > 1:
                    parameter.index_fill_(part.dim, part.index[gone].flatten(), 0)
    return masked


def _is_parameter(network: torch.nn.Module, name: str) -> bool:
    prefix, _, part = name.rpartition(".")
    return part in network.get_submodule(prefix)._parameters


def _some(count: int, generator: torch.Generator) -> torch.Tensor:
    # About half of the channels, at least one on either side.
    order = torch.randperm(count, generator=generator, device="cpu")
    return torch.zeros(count, dtype=torch.bool).index_fill(0, order[: count // 2], True)


def _scrambled(network: torch.nn.Module) -> Any:
    # Zeros, ones and equal values at initialization hide wrong slices.
    copied = copy.deepcopy(network)
    generator = torch.Generator("cpu").manual_seed(0)
    with torch.no_grad():
        for name, tensor in (*copied.named_parameters(), *copied.named_buffers()):
            if not tensor.is_floating_point() or (tensor.ndim > 1 and bool(tensor.any())):
                continue
            noise = torch.rand(tensor.shape, generator=generator, device="cpu").to(tensor)
            is_scale = name.endswith(("weight", "var")) and tensor.ndim <= 1
            tensor.copy_(0.5 + noise if is_scale else 0.1 * (noise - 0.5))
    return copied
