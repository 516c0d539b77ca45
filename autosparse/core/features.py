"""What is known of a weight at initialization, as numbers that mean the same in every network.

A feature group is a registered function of one layer: `(weight, gradient, layer, place) -> [weights, columns]`,
where `place` says where the layer stands in its network. Nothing depends on the scale of the weights, the
gradient, the batch or the loss, so that a scorer can be carried to networks and data it never saw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from autosparse.core.weights import Layer, Tensors
from autosparse.lazy import torch
from autosparse.registry import Registry


@dataclass(frozen=True)
class Place:
    """Where a layer stands: its number, of how many, and how many weights the network has."""

    index: int
    layers: int
    total: int


Group: TypeAlias = "Callable[[torch.Tensor, torch.Tensor, Layer, Place], torch.Tensor]"
feature_groups: Registry[Group] = Registry("feature group", "features")


@dataclass(frozen=True)
class Features:
    """`values[layer]` is `[weights, columns]`; `columns` names the feature group of each column."""

    columns: tuple[str, ...]
    values: Tensors

    def select(self, groups: Sequence[str]) -> Features:
        """Only the columns of these groups, in their present order."""
        kept = [index for index, group in enumerate(self.columns) if group in groups]
        return Features(tuple(self.columns[i] for i in kept), {k: v[:, kept] for k, v in self.values.items()})

    def take(self, layers: Sequence[str]) -> Features:
        """Only these layers."""
        return Features(self.columns, {name: self.values[name] for name in layers})

    def table(self) -> torch.Tensor:
        """All layers below one another: `[weights, columns]`."""
        return torch.cat(list(self.values.values()))


def describe_weights(weights: Mapping[str, torch.Tensor], gradient: Tensors, layers: Sequence[Layer]) -> Features:
    """Every registered feature group of every prunable weight."""
    parts = list(describe_layers_apart(weights, gradient, layers))
    return Features(parts[0].columns if parts else (), {n: v for part in parts for n, v in part.values.items()})


def describe_layers_apart(
    weights: Mapping[str, torch.Tensor], gradient: Tensors, layers: Sequence[Layer]
) -> Iterator[Features]:
    """The same, a layer at a time: all features of a network take 17 times the memory of its weights."""
    total = sum(layer.size for layer in layers)
    for index, layer in enumerate(layers):
        place = Place(index, len(layers), total)
        parts = {
            entry.name: entry.function(weights[layer.name], gradient[layer.name], layer, place)
            for entry in feature_groups
        }
        columns = tuple(name for name, part in parts.items() for _ in range(part.shape[1]))
        yield Features(columns, {layer.name: torch.cat(list(parts.values()), dim=1)})


@feature_groups.register
def magnitude(weight: torch.Tensor, gradient: torch.Tensor, layer: Layer, place: Place) -> torch.Tensor:
    """Rank and standardized logarithm of |w| in its layer."""
    return _relative(weight)


@feature_groups.register
def gradient(weight: torch.Tensor, gradient: torch.Tensor, layer: Layer, place: Place) -> torch.Tensor:
    """Rank and standardized logarithm of |g| in its layer, and whether w and g agree in sign."""
    agree = (weight * gradient).flatten().sign()
    return torch.cat([_relative(gradient), agree[:, None]], dim=1)


@feature_groups.register
def sensitivity(weight: torch.Tensor, gradient: torch.Tensor, layer: Layer, place: Place) -> torch.Tensor:
    """Rank and standardized logarithm of |w g| in its layer (SNIP's score)."""
    return _relative(weight * gradient)


@feature_groups.register
def channels(weight: torch.Tensor, gradient: torch.Tensor, layer: Layer, place: Place) -> torch.Tensor:
    """Standardized logarithm of the sum of |w g| over a weight's output and its input channel."""
    score = (weight * gradient).abs()
    kernel = list(range(2, score.ndim))
    by_output = _standardize(_log(score.sum(dim=[1, *kernel], keepdim=True))).expand_as(score)
    by_input = _standardize(_log(score.sum(dim=[0, *kernel], keepdim=True))).expand_as(score)
    return torch.stack([by_output.flatten(), by_input.flatten()], dim=1)


@feature_groups.register
def layer(weight: torch.Tensor, gradient: torch.Tensor, layer: Layer, place: Place) -> torch.Tensor:
    """Fan-in, fan-out, kernel, stride, share of all weights, and place from input to output."""
    facts = [
        math.log(layer.fan_in),
        math.log(layer.fan_out),
        math.log(math.prod(layer.kernel)),
        math.log(layer.stride),
        math.log(layer.size / place.total),
        place.index / max(1, place.layers - 1),
        float(place.index == 0),
        float(place.index == place.layers - 1),
    ]
    return torch.tensor(facts, device=weight.device).expand(layer.size, len(facts))


def _relative(values: torch.Tensor) -> torch.Tensor:
    size = values.flatten().abs()
    rank = torch.empty_like(size)
    rank[size.argsort(stable=True)] = torch.linspace(0, 1, size.numel(), device=size.device)
    return torch.stack([rank, _standardize(_log(size))], dim=1)


def _log(values: torch.Tensor) -> torch.Tensor:
    # Relative to the layer's own mean: a zero (a dead unit's gradient) lands 14 below it, in any units.
    return (values / values.mean().clamp_min(1e-30) + 1e-6).log()


def _standardize(values: torch.Tensor) -> torch.Tensor:
    spread = values.std(correction=0)
    return (values - values.mean()) / spread.clamp_min(1e-6)
