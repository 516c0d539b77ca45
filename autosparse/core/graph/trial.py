"""Trial of coupled channels: the network must run without some of a group's channels, with equal outputs."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

from autosparse.borders import is_out_of_memory
from autosparse.core.graph.coupling import ChannelGroup, Coupling, couple
from autosparse.core.graph.shrink import same_outputs
from autosparse.core.graph.slicing import sliced, slicing_of, without_caches
from autosparse.core.inputs import Inputs, call, noise_like
from autosparse.core.weights import prunable_weights
from autosparse.lazy_torch import torch

_TINY = 1e-4
_DRAWS = 2  # one may shrink two groups to equal numbers by chance
_SINGLE = "all of them are coupled to one another"


def find_groups(network: torch.nn.Module, example: Inputs) -> Coupling:
    """Return the groups whose channels may leave one by one, as a trial of a network in evaluation mode confirms.

    Random values in place of all parameters show every dependence, also where a branch begins at zero. Raises
    ValueError for a network that `torch.export` cannot record or that does not run.
    """
    coupling = couple(network, example)
    several = [group for group in coupling.groups if group.channels > 1]
    confirmed = {group.name: group for group in _Trial(network, example).confirm(several)}
    groups = tuple(confirmed[group.name] for group in several if group.name in confirmed)
    reasons = dict(coupling.whole)
    for reads in (True, False):  # a layer's outputs rather than its inputs
        for group in coupling.groups:
            if group.name not in confirmed:
                why = _SINGLE if group.channels < 2 else _fixed(network, group)
                reasons |= {part.tensor: why for part in group.slices if part.reads == reads}
    sliced_tensors = {part.tensor for group in groups for part in group.slices}
    whole = {name: reasons[name] for name in prunable_weights(network) if name in {*reasons} - sliced_tensors}
    return Coupling(groups, whole)


def _fixed(network: torch.nn.Module, group: ChannelGroup) -> str:
    plain = torch.nn.Linear | torch.nn.Embedding | torch.nn.modules.conv._ConvNd
    readers = [part.tensor.rpartition(".")[0] for part in group.slices if part.reads]
    owners = {name: network.get_submodule(name) for name in (*group.modules, *readers) if name}
    code = [f"`{name}` ({type(owner).__name__})" for name, owner in owners.items() if not isinstance(owner, plain)]
    return f"the code of {code[0] if code else 'the network'} fixes their number"


class _Trial:
    def __init__(self, network: torch.nn.Module, example: Inputs) -> None:
        self.network = scrambled(network)
        self.inputs = noise_like(example)
        with torch.no_grad():
            call(copy.deepcopy(self.network), self.inputs)  # raises for a network that does not run

    def confirm(self, groups: Sequence[ChannelGroup]) -> list[ChannelGroup]:
        """Return the groups that stand the trial, halving those that fail together."""
        if not groups:
            return []
        for multiple in (2, 1, 0):
            candidates = [replace(group, multiple=multiple) for group in groups]
            if self._stands(candidates):
                return candidates
        if len(groups) == 1:
            return []
        kinds: dict[tuple[type, ...], list[ChannelGroup]] = {}
        for group in groups:
            kinds.setdefault(tuple(type(self.network.get_submodule(name)) for name in group.modules), []).append(group)
        if len(kinds) > 1:
            return [group for alike in kinds.values() for group in self.confirm(alike)]
        first, last = self.confirm(groups[:1]), self.confirm(groups[-1:])
        if not first and not last and len({group.modules for group in groups}) == len(groups):
            return []  # the code of one class of modules
        middle = (len(groups) + 1) // 2
        return [*first, *self.confirm(groups[1:middle]), *self.confirm(groups[middle:-1]), *last]

    def _stands(self, groups: Sequence[ChannelGroup]) -> bool:
        return all(self._is_equal(groups, torch.Generator("cpu").manual_seed(seed)) for seed in range(_DRAWS))

    def _is_equal(self, groups: Sequence[ChannelGroup], generator: torch.Generator) -> bool:
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
    # Some of the channels, at least one on either side; different numbers show code that needs equal ones.
    order = torch.randperm(count, generator=generator, device="cpu")
    keep = int(torch.randint(max(1, count // 3), max(1, 2 * count // 3) + 1, (), generator=generator))
    return torch.zeros(count, dtype=torch.bool).index_fill(0, order[:keep], True)


def scrambled(network: torch.nn.Module) -> torch.nn.Module:
    """Return a copy with random values for tensors that begin at equal or tiny values, which hide wrong slices."""
    copied = without_caches(copy.deepcopy(network))
    generator = torch.Generator("cpu").manual_seed(0)
    with torch.no_grad():
        for name, tensor in (*copied.named_parameters(), *copied.named_buffers()):
            is_matrix = sum(size > 1 for size in tensor.shape) > 1
            if not tensor.is_floating_point() or (is_matrix and bool(tensor.abs().max() > _TINY)):
                continue
            noise = torch.rand(tensor.shape, generator=generator, device="cpu").to(tensor)
            is_scale = not is_matrix and name.endswith(("weight", "var"))
            tensor.copy_(0.5 + noise if is_scale else 0.1 * (noise - 0.5))
    return copied
