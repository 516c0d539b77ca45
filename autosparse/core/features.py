"""Features of a weight at initialization, comparable across networks.

A feature group is a registered function `(seen) -> [weights, columns]` of one layer. Except for `raw` no feature
depends on the scale of weights, gradient, batch or loss: a scorer transfers to other networks and data. A pruned weight
has the value of the lowest present one. Facts of a group: its number of `columns`, and the inputs that it `needs`:
`gradient`, `flow`, `joins` or `standing`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from autosparse.core.evidence import Evidence
from autosparse.core.graph.connectivity import describe_network
from autosparse.core.selection import ascending
from autosparse.core.weights import Layer, Tensors, kept
from autosparse.core.zero_scores import carrying_signal, silent_layers
from autosparse.lazy_torch import torch
from autosparse.registry import Registry


@dataclass(frozen=True)
class Position:
    """The position of a layer: its index among `layers`, the network's `total` weights, and its role at sums.

    `pruned` of the `total` weights are absent. A layer on a `branch` is on exactly one way into a sum; on a `shortcut`
    another way has more layers; a `summed` layer is the last before the sum.
    """

    index: int
    layers: int
    total: int
    branch: bool = False
    shortcut: bool = False
    summed: bool = False
    pruned: int = 0


@dataclass(frozen=True)
class Seen:
    """One layer as seen by feature groups.

    `weight`, `gradient`, `flow` (|w| dR/d|w| of SynFlow) and `mask` (present weights; None if all are) have its shape.
    `standing` holds the layer's means of |w g| and of flow, each over that of the network.
    """

    layer: Layer
    position: Position
    weight: torch.Tensor
    gradient: torch.Tensor | None = None
    flow: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    standing: tuple[float, float] = (1.0, 1.0)


_LEAST = 1e-6  # of a network's mean: the floor for a layer without gradient

Group: TypeAlias = "Callable[[Seen], torch.Tensor]"
feature_groups: Registry[Group] = Registry("feature group", "features")


@dataclass(frozen=True)
class Features:
    """A feature table: `values[layer]` is `[weights, columns]`; `columns` names the feature group of each column.

    `sizes` holds the weight counts of layers that the table only samples.
    """

    columns: tuple[str, ...]
    values: Tensors
    sizes: Mapping[str, int] = field(default_factory=dict)

    def take(self, layers: Sequence[str]) -> Features:
        """Return the table of these layers only."""
        return Features(self.columns, {name: self.values[name] for name in layers}, self.sizes)

    def table(self) -> torch.Tensor:
        """Stack all layers: `[weights, columns]`."""
        return torch.cat(list(self.values.values()))


def columns_of(groups: Iterable[str]) -> tuple[str, ...]:
    """Return the group of every column of a table of these groups, in registry order."""
    wanted = set(groups)
    return tuple(e.name for e in feature_groups if e.name in wanted for _ in range(e.facts["columns"]))


def needs_of(groups: Iterable[str]) -> set[str]:
    """Return the inputs that these groups need in addition to the weights."""
    return {need for name in groups for need in feature_groups[name].facts.get("needs", ())}


def table_layers(layers: Iterable[Seen], groups: Iterable[str]) -> Iterator[Features]:
    """Yield the feature table layer by layer: all tables together take many times the memory of the weights."""
    columns = columns_of(groups)
    functions = [feature_groups[name].function for name in dict.fromkeys(columns)]
    for seen in layers:
        yield Features(columns, {seen.layer.name: torch.cat([function(seen) for function in functions], dim=1)})


def describe(evidence: Evidence, groups: Iterable[str], images: int) -> Iterator[Features]:
    """Return the feature tables layer by layer, gradients being means over `images` training images.

    Computes only the inputs that the groups need, on the network under its masks. Raises UsageError for a network with
    integer inputs if a group needs its flow.
    """
    groups = tuple(groups)
    needs = needs_of(groups)
    gradient = evidence.gradient(evidence.weights, evidence.draw(images)) if "gradient" in needs else {}
    flow = _flow_of(evidence) if "flow" in needs else {}
    if silent_layers({**flow, **gradient}, evidence) and (carrying := carrying_signal(evidence)) is not evidence:
        return describe(carrying, groups, images)
    standing = _standings(evidence, gradient, flow) if "standing" in needs else {}
    seen = (
        Seen(
            layer,
            position,
            evidence.weights[layer.name],
            gradient.get(layer.name),
            flow.get(layer.name),
            None if bool(evidence.masks[layer.name].all()) else evidence.masks[layer.name],
            standing.get(layer.name, (1.0, 1.0)),
        )
        for layer, position in zip(evidence.layers, positions_of(evidence, joins="joins" in needs), strict=True)
    )
    return table_layers(seen, groups)


def positions_of(evidence: Evidence, *, joins: bool) -> list[Position]:
    """Return the position of every layer; roles at sums only with `joins`, which takes a pass of the network."""
    layers = evidence.layers
    order = [layer.name for layer in layers]
    branch, shortcut, summed = set[str](), set[str](), set[str]()
    for join in describe_network(evidence).joins if joins else ():
        if join.is_sum:
            for way in join.branches:
                branch.update(way)
                shortcut.update(way if join.is_shortcut(way) else ())
                summed.update(sorted(way, key=order.index)[-1:])
    total = sum(layer.size for layer in layers)
    pruned = total - sum(kept(evidence.masks).values())
    return [
        Position(number, len(layers), total, layer.name in branch, layer.name in shortcut, layer.name in summed, pruned)
        for number, layer in enumerate(layers)
    ]


@feature_groups.register(columns=2)
def magnitude(seen: Seen) -> torch.Tensor:
    """Rank |w| in its layer, and standardize its logarithm."""
    return _relative(seen.weight, seen)


@feature_groups.register(columns=3, needs=("gradient",))
def gradient(seen: Seen) -> torch.Tensor:
    """Rank |g| in its layer, standardize its logarithm, and compare the signs of w and g."""
    assert seen.gradient is not None
    agree = (seen.weight * seen.gradient).flatten().sign()
    return torch.cat([_relative(seen.gradient, seen), agree[:, None]], dim=1)


@feature_groups.register(columns=2, needs=("gradient",), source="Lee et al. 2019")
def sensitivity(seen: Seen) -> torch.Tensor:
    """Rank |w g| (SNIP's score) in its layer, and standardize its logarithm."""
    assert seen.gradient is not None
    return _relative(seen.weight * seen.gradient, seen)


@feature_groups.register(columns=2, needs=("gradient",))
def channels(seen: Seen) -> torch.Tensor:
    """Sum |w g| over a weight's output and its input channel, and standardize the logarithms."""
    assert seen.gradient is not None
    score = (seen.weight * seen.gradient).abs()
    kernel = list(range(2, score.ndim))
    columns = []
    for others in ([1, *kernel], [0, *kernel]):
        present = None if seen.mask is None else seen.mask.sum(dim=others, keepdim=True) > 0
        sums = score.sum(dim=others, keepdim=True)
        columns.append(_of_present(_spread_out, sums, present).expand_as(score).flatten())
    return torch.stack(columns, dim=1)


@feature_groups.register(columns=8)
def layer(seen: Seen) -> torch.Tensor:
    """Return fan-in, fan-out, kernel, stride, share of all weights, and position from input to output."""
    layer, position = seen.layer, seen.position
    facts = [
        math.log(layer.fan_in),
        math.log(layer.fan_out),
        math.log(math.prod(layer.kernel)),
        math.log(layer.stride),
        math.log(layer.size / position.total),
        position.index / max(1, position.layers - 1),
        float(position.index == 0),
        float(position.index == position.layers - 1),
    ]
    return _same_for_all(facts, seen)


@feature_groups.register(columns=2, needs=("flow",), source="Tanaka et al. 2020, eq. 2 and 3")
def flow(seen: Seen) -> torch.Tensor:
    """Rank the paths through a weight (SynFlow's score) in its layer, and standardize their logarithm."""
    assert seen.flow is not None
    return _relative(seen.flow, seen).to(seen.weight.dtype)


@feature_groups.register(columns=3, needs=("joins",))
def joins(seen: Seen) -> torch.Tensor:
    """Flag a layer on a branch of a sum, on a shortcut, and last before the sum."""
    position = seen.position
    return _same_for_all([float(position.branch), float(position.shortcut), float(position.summed)], seen)


@feature_groups.register(columns=2)
def remaining(seen: Seen) -> torch.Tensor:
    """Return logarithms of the present shares of the layer's and the network's weights: 0 at initialization."""
    size, total = seen.layer.size, seen.position.total
    left = size if seen.mask is None else int(seen.mask.count_nonzero())
    # A layer without weights is never queried; its logarithm stays finite.
    shares = [max(1, left) / size, max(1, total - seen.position.pruned) / total]
    return _same_for_all([math.log(share) for share in shares], seen)


@feature_groups.register(
    columns=2, needs=("gradient", "flow", "standing"), source="Lee et al. 2019; Tanaka et al. 2020"
)
def standing(seen: Seen) -> torch.Tensor:
    """Return logarithms of the layer's mean SNIP and SynFlow scores over the network's, which set their quotas."""
    return _same_for_all([math.log(max(share, _LEAST)) for share in seen.standing], seen)


@feature_groups.register(columns=2, needs=("gradient",), source="AutoSparse, arXiv 2408.14757, section 3")
def raw(seen: Seen) -> torch.Tensor:
    """Return w and g unscaled, in the units of their network."""
    assert seen.gradient is not None
    return torch.stack([seen.weight.flatten(), seen.gradient.flatten()], dim=1)


def _same_for_all(facts: list[float], seen: Seen) -> torch.Tensor:
    return torch.tensor(facts, device=seen.weight.device).expand(seen.layer.size, len(facts))


def _relative(values: torch.Tensor, seen: Seen) -> torch.Tensor:
    size = values.flatten().abs()
    present = None if seen.mask is None else seen.mask.flatten().bool()
    return torch.stack([_of_present(measure, size, present) for measure in (_ranks, _spread_out)], dim=1)


def _of_present(
    measure: Callable[[torch.Tensor], torch.Tensor], values: torch.Tensor, present: torch.Tensor | None
) -> torch.Tensor:
    if present is None:
        return measure(values)
    filled = torch.zeros_like(values)
    if bool(present.any()):
        among = measure(values[present])
        filled.fill_(among.min())
        filled[present] = among
    return filled


def _ranks(size: torch.Tensor) -> torch.Tensor:
    rank = torch.empty_like(size)
    rank[ascending(size)] = torch.linspace(0, 1, size.numel(), dtype=size.dtype, device=size.device)
    return rank


def _spread_out(values: torch.Tensor) -> torch.Tensor:
    # Relative to the layer's mean: a zero (a dead unit's gradient) lands 14 below it, in any units.
    logarithms = (values / values.mean().clamp_min(1e-30) + 1e-6).log()
    return (logarithms - logarithms.mean()) / logarithms.std(correction=0).clamp_min(1e-6)


def _standings(evidence: Evidence, gradient: Tensors, flow: Tensors) -> dict[str, tuple[float, float]]:
    # The means of |w g| and of flow over a layer's present weights, each over that of the network.
    present = {name: max(1, count) for name, count in kept(evidence.masks).items()}
    sums = {
        name: (float((weight * gradient[name]).abs().double().sum()), float(flow[name].double().sum()))
        for name, weight in evidence.weights.items()
    }
    whole = [sum(pair[side] for pair in sums.values()) / sum(present.values()) for side in (0, 1)]
    return {
        name: (pair[0] / present[name] / (whole[0] or 1), pair[1] / present[name] / (whole[1] or 1))
        for name, pair in sums.items()
    }


def _flow_of(evidence: Evidence) -> Tensors:
    # In double precision: products over many layers leave the range of float32.
    leaves = {name: weight.detach().abs().double().requires_grad_() for name, weight in evidence.weights.items()}
    _, gradient = evidence.flow_gradient(leaves)
    return {name: leaf.detach() * gradient[name] for name, leaf in leaves.items()}
