"""Paths from input to output through the present weights: the weights on them, and their number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from autosparse.core.evidence import Evidence
from autosparse.core.weights import Tensors, kept
from autosparse.lazy_torch import torch


class Untraceable(ValueError):
    """A network through which no paths can be counted."""


@dataclass(frozen=True)
class Paths:
    """The paths of a masked network, per layer by the name of its weight, and in total.

    `weights` counts weights on a path, `nodes` the output channels (of `channels`) that one of them enters. `through`
    is the natural logarithm of the number of paths through the layer, `all` that of all paths; minus infinity for none.
    Each position at which a weight is used makes a path; the values that a pool averages count as one.
    """

    weights: Mapping[str, int]
    nodes: Mapping[str, int]
    channels: Mapping[str, int]
    through: Mapping[str, float]
    all: float


def trace_paths(evidence: Evidence, on_path: Mapping[str, torch.Tensor] | None = None) -> Paths:
    """Count effective weights, nodes and paths (Vysogorets & Kempe 2023; Pham et al. 2023) in two passes.

    One pass suffices if the weights `on_path` are known.
    """
    on_path = effective_weights(evidence) if on_path is None else on_path
    through, total = count_paths(evidence)
    layers = evidence.layers_by_name
    entered = {name: layers[name].spread(part).any(dim=3).any(dim=2).flatten() for name, part in on_path.items()}
    channels = {name: part.numel() for name, part in entered.items()}
    return Paths(kept(on_path), kept(entered), channels, through, total)


def effective_weights(evidence: Evidence) -> Tensors:
    """Return the weights on a path from input to output, name -> bool tensor (Vysogorets & Kempe 2023).

    They have a gradient in the linear positive network. Weights are 1 / fan-in: sums neither vanish nor overflow.
    """
    _, gradient, _ = flow_of(evidence)
    return {name: (part > 0) & evidence.masks[name].bool() for name, part in gradient.items()}


def flow_of(evidence: Evidence) -> tuple[torch.Tensor, Tensors, Tensors]:
    """Return the flow through the effective weights, its gradient, and its leaves: layers' masks / fan-in."""
    leaves = {
        layer.name: (evidence.masks[layer.name].double() / layer.fan_in).requires_grad_() for layer in evidence.layers
    }
    return *evidence.flow_gradient(leaves, paths_only=True), leaves


def count_paths(evidence: Evidence) -> tuple[dict[str, float], float]:
    """Return the natural logarithms of the numbers of paths: through each layer, and in total.

    With all present weights 1 the linear positive network's output is the number of paths. Where that exceeds float64,
    weights are e^t with the largest t below 0 that does not. The mean length of a path, the logarithm's slope in t, is
    extrapolated to t = 0 as `1 / (p + q e^-t)`: exact for a chain and for equal residual blocks. Raises Untraceable for
    networks whose output does not grow with their weights.
    """
    exact = _paths_at(evidence, 0.0)
    if exact is not None:
        return exact
    low, high = -math.log(max(layer.fan_in for layer in evidence.layers)) - 1, 0.0
    for _ in range(6):
        middle = (low + high) / 2
        low, high = (low, middle) if _paths_at(evidence, middle) is None else (middle, high)
    at, below = _paths_at(evidence, low), _paths_at(evidence, low - 1)
    if at is None or below is None or not at[1] > below[1] > -math.inf:
        raise Untraceable("the network does not pass its weights on in proportion, as with standardized weights")
    (through, total), here, there = at, 1 / _mean_length(*at), 1 / _mean_length(*below)
    q = max(0.0, (there - here) / (math.exp(1 - low) - math.exp(-low)))
    p = here - q * math.exp(-low)
    more = (math.log1p(q / p) - math.log(math.exp(low) + q / p)) / p
    return {name: part + more for name, part in through.items()}, total + more


def _mean_length(through: Mapping[str, float], total: float) -> float:
    """Return the mean number of weights on a path."""
    return math.fsum(math.exp(part - total) for part in through.values())


def _paths_at(evidence: Evidence, power: float) -> tuple[dict[str, float], float] | None:
    """Return the result of `count_paths` with e^power for each weight on a path; None on overflow."""
    leaves = {
        layer.name: (evidence.masks[layer.name].double() * math.exp(power)).requires_grad_()
        for layer in evidence.layers
    }
    value, gradient = evidence.flow_gradient(leaves, paths_only=True)
    # The gradient of an absent weight may exceed the sum over the present paths.
    through = {
        name: float((part.where(evidence.masks[name].bool(), 0.0) * leaves[name].detach()).sum())
        for name, part in gradient.items()
    }
    total = float(value.detach())
    if not all(map(math.isfinite, (total, *through.values()))):
        return None
    return {name: _logarithm(part) for name, part in through.items()}, _logarithm(total)


def _logarithm(number: float) -> float:
    return math.log(number) if number > 0 else -math.inf
