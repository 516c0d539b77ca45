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
from autosparse.core.torch_compat.random_state import seeded
from autosparse.core.weights import in_mode, prunable_weights
from autosparse.lazy_torch import torch

_TINY = 1e-4
_DRAWS = 2  # one may shrink two groups to equal numbers by chance
_SINGLE = "all of them are coupled to one another"
_TRAINED = "training computes them by code that evaluation skips"


def find_groups(network: torch.nn.Module, example: Inputs) -> Coupling:
    """Return the groups whose channels may leave one by one, as a trial of a network in evaluation mode confirms.

    Random values in place of all parameters show every dependence, also where a branch begins at zero. Raises
    ValueError for a network that `torch.export` cannot record or that does not run.
    """
    coupling, trial = couple(network, example), _Trial(network, example)
    weights = prunable_weights(network)
    refused = {group.name: why for group in coupling.groups if (why := _unfit(group, network, weights))}
    several = [group for group in coupling.groups if group.name not in refused]
    confirmed = {group.name: group for group in trial.confirm(several)}
    groups = tuple(confirmed[group.name] for group in several if group.name in confirmed)
    computed, read = dict(coupling.whole), dict[str, str]()
    for group in (group for group in coupling.groups if group.name not in confirmed):
        trained = _TRAINED if group.name in trial.untrainable else ""
        why = refused.get(group.name) or trained or _fixed(network, group)
        for part in group.slices:
            (read if part.reads else computed).setdefault(part.tensor, why)
    parts = [part for group in groups for part in group.slices]
    computing, reading = ({part.tensor for part in parts if part.reads == reads} for reads in (False, True))
    whole: dict[str, str] = {}
    for name in (name for name in weights if name not in computing):
        if why := computed.get(name) or ("" if name in reading else read.get(name, "")):
            whole[name] = why
    return Coupling(groups, whole)


def _unfit(group: ChannelGroup, network: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> str:
    # Masks cover weights of layers alone: another matrix would read what a masked channel still gives, such as a bias.
    if group.channels < 2:
        return _SINGLE
    parameters, masked = dict(network.named_parameters(remove_duplicate=False)), {*map(id, weights.values())}
    unmasked = (
        part.tensor
        for part in group.slices
        if part.reads and part.tensor in parameters and id(parameters[part.tensor]) not in masked
    )
    return next((f"`{name}` reads them and is no prunable weight" for name in unmasked), "")


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
        self.untrainable: set[str] = set()
        with torch.no_grad():
            call(copy.deepcopy(self.network), self.inputs)  # raises for a network that does not run
        self._trains = self._runs_in_training(self.network)

    def confirm(self, groups: Sequence[ChannelGroup]) -> list[ChannelGroup]:
        """Return the groups that stand the trial, halving those that fail together."""
        if not groups:
            return []
        for multiple in (2, 1, 0):
            candidates = [replace(group, multiple=multiple) for group in groups]
            if self._stands(candidates):
                return candidates
        if len(groups) == 1:
            if self._trains and any(self._stands([replace(groups[0], multiple=m)], trains=False) for m in (2, 1, 0)):
                self.untrainable.add(groups[0].name)
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

    def _stands(self, groups: Sequence[ChannelGroup], *, trains: bool = True) -> bool:
        generators = (torch.Generator("cpu").manual_seed(seed) for seed in range(_DRAWS))
        return all(self._is_equal(groups, generator, trains=trains and self._trains) for generator in generators)

    def _is_equal(self, groups: Sequence[ChannelGroup], generator: torch.Generator, *, trains: bool) -> bool:
        channels = {group.name: _some(group.channels, generator) for group in groups}
        try:
            with torch.no_grad():
                expected = call(without(self.network, groups, channels), self.inputs)
                network = sliced(self.network, slicing_of(self.network, groups, channels))
                smaller = call(network, self.inputs)
        except Exception as error:  # its code hard-codes sizes
            if is_out_of_memory(error):
                raise
            return False
        return same_outputs(expected, smaller) and (not trains or self._runs_in_training(network))

    def _runs_in_training(self, network: torch.nn.Module) -> bool:
        # Its code may differ there, such as in auxiliary outputs.
        try:
            with torch.no_grad(), seeded(0), in_mode(network := copy.deepcopy(network), training=True):
                call(network, self.inputs)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return False
        return True


def without(
    network: torch.nn.Module, groups: Sequence[ChannelGroup], channels: Mapping[str, torch.Tensor]
) -> torch.nn.Module:
    """Return a copy of a network whose prunable weights of removed channels are zero, as under masks."""
    masked = copy.deepcopy(network)
    parameters = dict(masked.named_parameters(remove_duplicate=False))
    covered = {*map(id, prunable_weights(masked).values())}
    with torch.no_grad():
        for group in groups:
            gone = ~channels[group.name]
            for part in group.slices:
                if id(parameter := parameters.get(part.tensor)) in covered and parameter is not None:
                    parameter.index_fill_(part.dim, part.index[gone].flatten(), 0)
    return masked


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
