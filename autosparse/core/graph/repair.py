"""Repairs of disconnected masks: none, or the fewest moved weights that reconnect the network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, TypeAlias

from autosparse.core.evidence import Evidence
from autosparse.core.graph.connectivity import Network, describe_network, outputs_without
from autosparse.core.graph.paths import effective_weights
from autosparse.core.weights import Layer, Tensors, kept
from autosparse.lazy_torch import torch
from autosparse.registry import Registry

Repair: TypeAlias = Callable[[Evidence, Tensors, Callable[[Evidence], Tensors], Mapping[str, int]], Tensors]
repairs: Registry[Repair] = Registry("repair", "repairs")


@repairs.register
def none(evidence: Evidence, masks: Tensors, score: Callable[[Evidence], Tensors], costs: Mapping[str, int]) -> Tensors:
    """Keep the masks; the report lists disconnected parts."""
    return masks


@repairs.register
def reconnect(
    evidence: Evidence, masks: Tensors, score: Callable[[Evidence], Tensors], costs: Mapping[str, int]
) -> Tensors:
    """Add the fewest weights that give every layer and output a path, and remove as many.

    Each missing path is the one that lacks the fewest weights, ties broken by the best scores. Weights on no path go
    first, lowest scores first, then the lowest scores whose input and output channels keep others. `costs` is the cost
    of a weight per layer: the total does not rise, and stays the same if each costs 1. Where weights cannot be removed
    one by one, paths are built from empty masks and the best other weights fill the budget. Takes one or two passes of
    the network for each added weight. Raises ValueError when the budget is too small for a path through every layer.
    """
    network = describe_network(evidence)
    scores = {name: values.detach().double() for name, values in score(evidence).items()}
    limit = _cost(masks, costs)
    mended = {name: mask.clone() for name, mask in masks.items()}
    for _ in range(_ROUNDS):
        added = _add_paths(evidence, mended, scores, network)
        if not added and _cost(mended, costs) <= limit:
            return mended
        if not _remove(evidence, mended, scores, costs, limit, network):
            break
    return _rebuild(evidence, masks, scores, costs, limit, network)


_ROUNDS = 8
_ABSENT = 1e-10
"""The value of a path through an absent weight: sums over a layer's inputs do not make up for it."""


def _add_paths(evidence: Evidence, masks: Tensors, scores: Tensors, network: Network) -> int:
    """Add weights to the masks, in place, until every layer and output has a path; return their number."""
    added = 0
    while (target := _first_without_path(replace(evidence, masks=masks), network)) is not None:
        name, among = target
        order = _missing(evidence, masks)[name].masked_fill(~among, math.inf)
        if math.isinf(left := float(order.min())):
            raise ValueError(f"layer {name} cannot be given a path")
        through = _best({name: order == left}, scores)
        while left > 0:
            # The pull makes paths through the chosen weight lack -1 in total: no other path comes before them.
            missing = _missing(evidence, masks, through, pull=left + 1)
            layer, index = _best({layer: (part == -1) & ~masks[layer] for layer, part in missing.items()}, scores)
            masks[layer].view(-1)[index] = True
            added, left = added + 1, left - 1
    return added


def _first_without_path(evidence: Evidence, network: Network) -> tuple[str, torch.Tensor] | None:
    """Return a layer that needs a path, and the weights that the path may pass."""
    on_path = effective_weights(evidence)
    for name, part in network.on_path.items():
        if bool(part.any()) and not bool(on_path[name].any()):
            return name, part
    if network.last is not None and bool((without := outputs_without(evidence, on_path, network)).any()):
        layer, part = evidence.layers_by_name[network.last], network.on_path[network.last]
        rows = torch.zeros(without.shape, dtype=torch.bool, device=without.device)
        rows[int(without.nonzero()[0])] = True
        parts = layer.spread(part)
        return network.last, layer.gather(parts & rows.reshape(parts.shape[0], parts.shape[1], 1, 1), part.shape)
    return None


def _best(candidates: Mapping[str, torch.Tensor], scores: Tensors) -> tuple[str, torch.Tensor]:
    """Return the layer and the index of the candidate with the highest score, the first of ties."""
    best: list[tuple[float, str, torch.Tensor]] = []
    for name, part in candidates.items():
        indices = part.flatten().nonzero().flatten()
        if len(indices):
            values = scores[name].flatten()[indices]
            best.append((float(values.max()), name, indices[values.argmax()]))
    assert best, "a path that lacks weights has one of them"
    return max(best, key=lambda candidate: candidate[0])[1:]


def _missing(
    evidence: Evidence, masks: Tensors, through: tuple[str, torch.Tensor] | None = None, pull: float = 0.0
) -> dict[str, torch.Tensor]:
    """Return for each weight the fewest absent weights on a path through it, itself included.

    Infinity if no path exists. A path is worth `_ABSENT` to the power of its absent weights, and `pull` less for the
    weight that it must go `through`. Sums at every layer are rounded to such powers, forward and backward, so that the
    number of paths does not count.
    """
    values = {name: mask.double().masked_fill(~mask, _ABSENT) for name, mask in masks.items()}
    if through is not None:
        values[through[0]].view(-1)[through[1]] *= _ABSENT**-pull
    leaves = {name: value.requires_grad_() for name, value in values.items()}
    with _rounded_to_powers(evidence):
        _, gradient = evidence.flow_gradient(leaves, paths_only=True)
    return {name: _power(part * leaves[name].detach()) for name, part in gradient.items()}


def _power(values: torch.Tensor) -> torch.Tensor:
    # Sums of equal powers are up to a million times one of them, means down to a thousandth.
    return (values.clamp_min(0).log() / math.log(_ABSENT) + 0.1).round()


@contextmanager
def _rounded_to_powers(evidence: Evidence) -> Iterator[None]:
    def rounded(values: torch.Tensor) -> torch.Tensor:
        return torch.pow(_ABSENT, _power(values))  # infinity gives zero

    def at_layer(module: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(map(snap, inputs))

    def snap(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            return value
        plain = value.detach()
        ratio = torch.where(plain > 0, rounded(plain) / plain, 0.0)
        snapped = value * ratio
        if snapped.requires_grad:
            snapped.register_hook(rounded)
        return snapped

    modules = dict(evidence.model.named_modules(remove_duplicate=False))
    homes = {modules[layer.name.rpartition(".")[0]] for layer in evidence.layers}
    with ExitStack() as hooks:
        for home in homes:
            hooks.enter_context(home.register_forward_pre_hook(at_layer))
        yield


def _remove(
    evidence: Evidence, masks: Tensors, scores: Tensors, costs: Mapping[str, int], limit: int, network: Network
) -> bool:
    """Remove weights from the masks, in place, until they cost at most `limit`; return whether that succeeded.

    A weight goes only if its channels keep another, which with padding and strides may not suffice for a path.
    """
    excess = _cost(masks, costs) - limit
    on_path = effective_weights(replace(evidence, masks=masks))
    idle = {name: masks[name] & ~on_path[name] & part for name, part in network.on_path.items()}
    for name, index in _by_score(idle, scores):
        if excess <= 0:
            return True
        masks[name].view(-1)[index] = False
        excess -= costs[name]
    layers = evidence.layers_by_name
    ends_of = {name: _channels_of_weights(layers[name], part) for name, part in on_path.items()}
    uses = {
        name: tuple(torch.bincount(side.flatten()[part.flatten()], minlength=int(side.max()) + 1) for side in sides)
        for (name, part), sides in zip(on_path.items(), ends_of.values(), strict=True)
    }
    for name, index in _by_score(on_path, scores):
        if excess <= 0:
            return True
        ends = [(count, side.view(-1)[index]) for count, side in zip(uses[name], ends_of[name], strict=True)]
        if all(int(count[end]) > 1 for count, end in ends):
            masks[name].view(-1)[index] = False
            excess -= costs[name]
            for count, end in ends:
                count[end] -= 1
    return excess <= 0


def _rebuild(
    evidence: Evidence, before: Tensors, scores: Tensors, costs: Mapping[str, int], limit: int, network: Network
) -> Tensors:
    """Return masks of paths through every layer and to every output; the best other weights fill the budget."""
    masks = {name: torch.zeros_like(mask) for name, mask in before.items()}
    _add_paths(evidence, masks, scores, network)
    left = limit - _cost(masks, costs)
    if left < 0:
        raise ValueError("too few weights stay to give every layer and every output a path")
    others = {name: mask & ~masks[name] for name, mask in before.items()}
    for name, index in _by_score(others, scores, best_first=True):
        if costs[name] <= left:
            masks[name].view(-1)[index] = True
            left -= costs[name]
    return masks


def _by_score(
    candidates: Mapping[str, torch.Tensor], scores: Tensors, *, best_first: bool = False
) -> Iterator[tuple[str, int]]:
    """Yield layers and indices from the lowest score up, or from the highest down; ties in order."""
    names = list(candidates)
    positions = [part.flatten().nonzero().flatten() for part in candidates.values()]
    values = torch.cat([scores[name].flatten()[position] for name, position in zip(names, positions, strict=True)])
    layer = torch.cat([torch.full_like(position, number) for number, position in enumerate(positions)])
    position = torch.cat(positions)
    for index in values.argsort(stable=True, descending=best_first).tolist():
        yield names[int(layer[index])], int(position[index])


def _channels_of_weights(layer: Layer, part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return for every weight the index of its output channel and of its input channel."""
    groups, outputs, inputs, _ = (whole := layer.spread(part)).shape
    output = torch.arange(groups * outputs, device=part.device).reshape(groups, outputs, 1, 1)
    input = torch.arange(groups * inputs, device=part.device).reshape(groups, 1, inputs, 1)
    first, second = (layer.gather(side.expand_as(whole), part.shape).contiguous() for side in (output, input))
    return first, second


def _cost(masks: Tensors, costs: Mapping[str, int]) -> int:
    return sum(costs[name] * count for name, count in kept(masks).items())
