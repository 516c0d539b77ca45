"""A network without some of its channels: smaller tensors, the same code, and the way back to the dense state."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from autosparse.core.graph.channel_registry import loses_groups
from autosparse.core.graph.channel_walk import tied_names
from autosparse.core.graph.coupling import ChannelGroup
from autosparse.core.weights import Tensors, in_mode
from autosparse.lazy_torch import torch


@dataclass(frozen=True)
class Slicing:
    """The part of a network that stays: positions along dimensions of tensors, and attributes that hold sizes.

    `kept` maps a tensor's name and one of its dimensions to int64 positions in ascending order; tensors without an
    entry stay whole. `sizes` maps `module.attribute` to its number, such as that of attention heads. `scales` are
    factors of initial weights.
    """

    kept: Mapping[str, Mapping[int, torch.Tensor]]
    sizes: Mapping[str, int] = field(default_factory=dict)
    scales: Mapping[str, float] = field(default_factory=dict)

    def take(self, state: Mapping[str, torch.Tensor]) -> Tensors:
        """Return the tensors of the smaller network, of those of the dense one."""
        return {name: self.part_of(name, tensor) for name, tensor in state.items()}

    def part_of(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Return the part of a tensor that stays."""
        for dim, index in self.kept.get(name, {}).items():
            tensor = tensor.index_select(dim, index.to(tensor.device))
        return tensor

    def start(self, network: torch.nn.Module) -> torch.nn.Module:
        """Return the smaller network, its initial weights scaled."""
        smaller = sliced(network, self)
        with torch.no_grad():
            for name, factor in self.scales.items():
                smaller.get_parameter(name).mul_(factor)
        return smaller

    def put(self, smaller: Mapping[str, torch.Tensor], dense: Mapping[str, torch.Tensor]) -> Tensors:
        """Return the dense network's tensors with those of the smaller one in them; removed elements are `dense`'s."""
        state: Tensors = {}
        for name, tensor in smaller.items():
            known = self.kept.get(name)
            if known is None:
                state[name] = tensor
                continue
            whole = dense[name].clone()
            grid = [known.get(dim, torch.arange(size)).to(whole.device) for dim, size in enumerate(whole.shape)]
            whole[torch.meshgrid(*grid, indexing="ij")] = tensor
            state[name] = whole
        return state


def named(slicing: Slicing) -> Tensors:
    """Return a slicing as tensors by name, for a file: `slices/NAME.DIMENSION`, `sizes/NAME`, `scales/NAME`."""
    slices = {f"slices/{name}.{dim}": index for name, parts in slicing.kept.items() for dim, index in parts.items()}
    sizes = {f"sizes/{name}": torch.tensor(value) for name, value in slicing.sizes.items()}
    scales = {f"scales/{name}": torch.tensor(value, dtype=torch.float64) for name, value in slicing.scales.items()}
    return {**slices, **sizes, **scales}


def from_named(tensors: Mapping[str, torch.Tensor]) -> Slicing:
    """Return the slicing of such tensors. Raises ValueError for others."""
    kept: dict[str, dict[int, torch.Tensor]] = {}
    numbers: dict[str, dict[str, float]] = {"sizes": {}, "scales": {}}
    for key, tensor in tensors.items():
        kind, _, name = key.partition("/")
        if kind in numbers and tensor.numel() == 1 and float(tensor) > 0:
            numbers[kind][name] = tensor.item()
        elif kind == "slices" and name.rpartition(".")[2].isdigit() and _is_ordered(tensor):
            tensor_name, _, dim = name.rpartition(".")
            kept.setdefault(tensor_name, {})[int(dim)] = tensor
        else:
            raise ValueError(f"`{key}` is no slice")
    return Slicing(kept, {name: int(size) for name, size in numbers["sizes"].items()}, numbers["scales"])


def _is_ordered(index: torch.Tensor) -> bool:
    whole = index.dtype == torch.int64 and index.ndim == 1 and len(index) > 0
    return whole and int(index[0]) >= 0 and bool((index.diff() > 0).all())


def slicing_of(
    network: torch.nn.Module,
    groups: Sequence[ChannelGroup],
    channels: Mapping[str, torch.Tensor],
) -> Slicing:
    """Return the slicing that keeps some channels of each group.

    Args:
        network: Dense network.
        groups: Groups of coupled channels.
        channels: Name of a group -> bool `[channels]`, True for those that stay; a group without an entry stays whole.
    """
    stays: dict[tuple[str, int], torch.Tensor] = {}
    sizes: dict[str, int] = {}
    tensors = _tensors(network)
    for group in groups:
        keep = channels.get(group.name)
        if keep is None or bool(keep.all()):
            continue
        for part in group.slices:
            flags = stays.setdefault(
                (part.tensor, part.dim), torch.ones(tensors[part.tensor].shape[part.dim], dtype=torch.bool)
            )
            flags[part.index[~keep.cpu()].flatten()] = False
        sizes |= _sizes(network, group, int(keep.count_nonzero()))
    kept: dict[str, dict[int, torch.Tensor]] = {}
    for (name, dim), flags in stays.items():
        kept.setdefault(name, {})[dim] = flags.nonzero().flatten()
    return Slicing(_with_ties(network, kept), sizes)


def _with_ties(
    network: torch.nn.Module, kept: dict[str, dict[int, torch.Tensor]]
) -> dict[str, dict[int, torch.Tensor]]:
    # A tied tensor has several names in a state.
    return {name: kept[first] for name, first in tied_names(network).items() if first in kept}


def _sizes(network: torch.nn.Module, group: ChannelGroup, keep: int) -> dict[str, int]:
    # Attributes of the modules that rearrange the channels: a number of heads, or the common size of all channels.
    sizes: dict[str, int] = {}
    widths = {part.index.shape[1] for part in group.slices}
    for module in group.modules:
        for name, value in vars(network.get_submodule(module)).items():
            if type(value) is not int or name.startswith("_") or value % group.channels or not value:
                continue
            times = value // group.channels
            counts = any(word in name for word in ("head", "group")) and not any(
                word in name for word in ("dim", "size", "width")
            )
            scales = name == "num_features" or (not counts and 0 < group.multiple <= times)
            if (times == 1 and counts) or (times in widths and scales):
                sizes[f"{module}.{name}" if module else name] = times * keep
    return sizes


def sliced(network: torch.nn.Module, slicing: Slicing) -> torch.nn.Module:
    """Return a copy of a network with the tensors and sizes of a slicing."""
    smaller = without_caches(copy.deepcopy(network))
    modules = dict(smaller.named_modules(remove_duplicate=False))
    tensors, made = _tensors(smaller), dict[int, torch.Tensor]()
    for name in slicing.kept:
        held = tensors[name]
        if id(held) not in made:
            made[id(held)] = _like(held, slicing.part_of(name, held.detach()).clone())
        prefix, _, part = name.rpartition(".")
        setattr(modules[prefix], part, made[id(held)])
        _resize(modules[prefix], part)
    for name, value in slicing.sizes.items():
        prefix, _, attribute = name.rpartition(".")
        setattr(modules[prefix], attribute, value)
    from autosparse.core.torch_compat.narrow_stride_fix import avoid_narrow_strides

    return avoid_narrow_strides(smaller)


def without_caches(network: torch.nn.Module) -> torch.nn.Module:
    """Return a network after a change of mode, which drops tensors that it computed once for evaluation."""
    with in_mode(network, training=True):
        return network


def _tensors(network: torch.nn.Module) -> Tensors:
    return {
        **dict(network.named_parameters(remove_duplicate=False)),
        **dict(network.named_buffers(remove_duplicate=False)),
    }


def _like(held: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    if not isinstance(held, torch.nn.Parameter):
        return part
    return torch.nn.Parameter(part, requires_grad=held.requires_grad)


def _resize(module: torch.nn.Module, part: str) -> None:
    # The sizes that torch's own layers keep next to their tensors.
    layers, held = torch.nn, module
    if isinstance(held, layers.modules.batchnorm._NormBase):
        tensor = held.weight if held.weight is not None else held.running_mean
        held.num_features = len(tensor) if tensor is not None else held.num_features
    elif part != "weight":
        return
    elif isinstance(held, layers.Linear):
        held.out_features, held.in_features = held.weight.shape
    elif isinstance(held, layers.Embedding):
        held.embedding_dim = held.weight.shape[1]
    elif isinstance(held, layers.modules.conv._ConvNd):
        first, second = held.weight.shape[:2]
        loses = held.groups > 1 and loses_groups(held.groups, held.in_channels)
        dense = held.in_channels if held.transposed else held.out_channels
        held.groups = first * held.groups // dense if loses else held.groups
        outer, inner = first, second * held.groups
        held.in_channels, held.out_channels = (outer, inner) if held.transposed else (inner, outer)
