"""A network without its dead channels: the same outputs from fewer, ordinary layers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from autosparse.borders import is_out_of_memory
from autosparse.core.graph.channel_flow import ChannelFlow, Reader, find_channels, kept_units
from autosparse.core.inputs import Inputs, call, noise_like, tensors_in
from autosparse.core.weights import Tensors, load_state, state_of
from autosparse.lazy_torch import torch

CLOSE = 1e-4


def shrink(network: torch.nn.Module, example: Inputs, multiple: int = 1) -> Tensors:
    """Return the state of `network`, in evaluation mode, without dead channels, for `resize`.

    A channel is dead if it is constant for every input, or if no layer on a path to the output reads it. Its readers
    absorb a nonzero constant in their bias, or in the weights of one channel. Dead channels stay where they fill a
    layer's number of channels up to a multiple. A trial checks that outputs stay equal up to rounding. Raises
    ValueError for a network that cannot be read, or that does not run with smaller layers.
    """
    inputs = noise_like(example)
    for through_views in (True, False):
        state = _without_dead(network, find_channels(network, example, through_views=through_views), multiple)
        try:
            with torch.no_grad():
                expected, outputs = call(network, inputs), call(resize(network, state), inputs)
        except Exception as error:  # its code hard-codes sizes
            if is_out_of_memory(error):
                raise
            continue
        if same_outputs(expected, outputs):
            return state
    raise ValueError("it does not run, or gives something else, with smaller layers")


def same_outputs(expected: Any, actual: Any) -> bool:
    """Return whether the tensors of two outputs are equal up to rounding."""
    pairs = [*zip_longest(tensors_in(expected), tensors_in(actual))]
    return bool(pairs) and all(
        one is not None and other is not None and one.shape == other.shape and are_close(one, other)
        for one, other in pairs
    )


def are_close(expected: torch.Tensor, actual: torch.Tensor) -> bool:
    """Return whether outputs are equal up to rounding: max abs error at most 1e-4 of the largest."""
    return bool((expected - actual).abs().max() <= CLOSE * expected.abs().max())


def _without_dead(network: torch.nn.Module, flow: ChannelFlow, multiple: int) -> Tensors:
    kept, stand = kept_units(flow, multiple)
    state: Tensors = {name: tensor.detach() for name, tensor in state_of(network).items()}
    for index, reader in enumerate(flow.readers):
        weight, bias = _folded(reader, kept[reader.reads.units], kept[reader.gives.units], stand.get(index))
        state[f"{reader.module}.weight"] = weight
        if bias is not None:
            state[f"{reader.module}.bias"] = bias
    for module, value in flow.followers:
        for name in ("weight", "bias", "running_mean", "running_var"):
            if (tensor := state.get(f"{module}.{name}")) is not None:
                state[f"{module}.{name}"] = tensor[kept[value.units]]
    return {name: tensor.contiguous() for name, tensor in state.items()}


def fuse(network: torch.nn.Module, example: Inputs) -> torch.nn.Module:
    """Return a copy of `network`, for inference, with its normalizations fused into the layers before them.

    Outputs stay equal up to rounding. Raises ValueError for a network that cannot be read.
    """
    fused = copy.deepcopy(network)
    fusion = torch.nn.utils.fusion
    for layer, normalization in find_channels(network, example).normalized:
        before, after = fused.get_submodule(layer), fused.get_submodule(normalization)
        is_linear = isinstance(before, torch.nn.Linear)
        joining: Any = fusion.fuse_linear_bn_eval if is_linear else fusion.fuse_conv_bn_eval
        joined = joining(before, after)
        before.weight, before.bias = joined.weight, joined.bias
        _leave_out(fused, normalization)
    return fused


def like_fused(network: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """Return a copy of `network` without the normalizations that `state` lacks, as `fuse` leaves it."""
    fused = copy.deepcopy(network)
    for name, module in network.named_modules():
        if isinstance(module, _normalizing()) and not any(key.startswith(f"{name}.") for key in state):
            _leave_out(fused, name)
    return fused


def _leave_out(network: torch.nn.Module, name: str) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, torch.nn.Identity())


def resize(network: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """Return a copy of `network` with the layers that `shrink` left, and their state, in evaluation mode.

    Raises ValueError for a state that is not a smaller form of the network's.
    """
    smaller = copy.deepcopy(network)
    current = state_of(smaller)
    if missing := [name for name in current if name not in state]:
        raise ValueError(f"tensor {missing[0]} is missing")
    modules = dict(smaller.named_modules())
    for name, tensor in state.items():
        if name in current and current[name].shape == tensor.shape:
            continue
        prefix, _, part = name.rpartition(".")
        module = modules.get(prefix)
        beside = state.get(f"{prefix}.weight", state.get(f"{prefix}.running_mean"))
        if module is None or not _fits(module, part, tensor, current.get(name), beside):
            raise ValueError(f"tensor {name} is of no smaller form of the network")
        _put(module, part, tensor)
    load_state(smaller, state)
    from autosparse.core.torch_compat.narrow_stride_fix import avoid_narrow_strides

    return avoid_narrow_strides(smaller).eval()


def _folded(
    reader: Reader, inputs: torch.Tensor, outputs: torch.Tensor, stands: int | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    # The weight and bias of a layer between the channels that stay, with the others' contributions added.
    constant, gives = reader.reads.constant, reader.gives.constant
    weight = reader.weight.double().clone()
    bias = torch.zeros(len(weight), dtype=torch.float64) if reader.bias is None else reader.bias.double().clone()
    gone = ~inputs & ~reader.reads.varies & (constant != 0)
    brought = weight[:, gone] * constant[gone].view(-1, *[1] * (weight.ndim - 2))
    if not reader.padded:
        bias += brought.flatten(1).sum(dim=1)
    elif stands is not None:
        weight[:, stands] += brought.sum(dim=1) / constant[stands]
    fixed = ~gives.isnan()
    weight[fixed], bias[fixed] = 0.0, gives[fixed]
    kind = reader.weight.dtype
    weight, bias = weight[outputs][:, inputs].to(kind), bias[outputs].to(kind)
    return weight, bias if reader.bias is not None or bool((bias != 0).any()) else None


def _fits(
    module: torch.nn.Module, part: str, tensor: torch.Tensor, current: torch.Tensor | None, beside: torch.Tensor | None
) -> bool:
    # True if a tensor may replace a module's present one, `beside` being another replacement in that module.
    if not isinstance(module, _mixing() + _normalizing()) or beside is None:
        return False
    if current is None:  # a bias that absorbs removed channels
        return part == "bias" and isinstance(module, _mixing()) and tensor.shape == beside.shape[:1]
    smaller = tensor.ndim == current.ndim and all(
        0 < new <= old for new, old in zip(tensor.shape, current.shape, strict=True)
    )
    return smaller and tensor.shape[:1] == beside.shape[:1] and tensor.shape[2:] == current.shape[2:]


def _put(module: torch.nn.Module, part: str, tensor: torch.Tensor) -> None:
    held: Any = module
    empty = torch.empty_like(tensor)
    setattr(module, part, empty if part in module._buffers else torch.nn.Parameter(empty))
    if isinstance(module, _normalizing()):
        held.num_features = len(tensor)
    elif part == "weight" and isinstance(module, torch.nn.Linear):
        held.out_features, held.in_features = tensor.shape
    elif part == "weight":
        if held.groups == held.in_channels > 1:  # a depthwise convolution, a group for each channel
            held.groups = len(tensor)
        held.out_channels, held.in_channels = len(tensor), tensor.shape[1] * held.groups


def _mixing() -> tuple[type[torch.nn.Module], ...]:
    return torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d


def _normalizing() -> tuple[type[torch.nn.Module], ...]:
    return torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d
