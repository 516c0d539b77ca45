"""Channels: whole coupled groups of channels, attention heads or neurons, which leave smaller dense layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Lt

from autosparse.core.allocation import Allocation, Counts, Impossible, most_within
from autosparse.core.evidence import Evidence
from autosparse.core.graph.coupling import ChannelGroup, Coupling
from autosparse.core.graph.slicing import Slicing, slicing_of
from autosparse.core.graph.trial import find_groups
from autosparse.core.inputs import call, resized
from autosparse.core.units._base import Unit, units
from autosparse.core.units.cost import Cost, Shapes
from autosparse.core.weights import Layer, Tensors, in_mode, prunable_weights
from autosparse.lazy_torch import torch
from autosparse.text import plural

Aggregate = Literal["sum", "mean", "norm"]
_NOTED = 0.05  # share of the multiply-adds in layers that are not prunable
_BLOCK, _STEPS = 16, 8  # channels of a block of a convolution; fewest numbers of channels that a group chooses from


@dataclass(frozen=True)
class Channels(Unit):
    """The coupled channels of a network: a layer of the method for each group, a weight of it for each channel."""

    evidence: Evidence
    coupling: Coupling
    aggregate: Aggregate
    normalize: Literal["none", "layer", "group"]
    least: float
    multiple: int | Literal["auto"]
    rescale: bool

    @property
    def layers(self) -> Sequence[Layer]:
        """Groups as layers of channels."""
        return [Layer(group.name, (group.channels, 1), 1, group.channels, (), 1, 0) for group in self.coupling.groups]

    def gather(self, scores: Tensors) -> Tensors:
        """Return the scores of channels, of those of all weights that compute or read one."""
        if self.normalize == "layer":
            scores = {name: values / values.abs().mean().clamp_min(1e-30) for name, values in scores.items()}
        gathered = {group.name: self._gathered(group, scores) for group in self.coupling.groups}
        if self.normalize == "group":
            gathered = {name: values / values.abs().mean().clamp_min(1e-30) for name, values in gathered.items()}
        return gathered

    def _gathered(self, group: ChannelGroup, scores: Tensors) -> torch.Tensor:
        device = next(iter(scores.values())).device
        total, number = torch.zeros(group.channels, dtype=torch.float64, device=device), 0
        for part in group.slices:
            if part.tensor not in scores:
                continue
            values = scores[part.tensor].double()
            along = (values.square() if self.aggregate == "norm" else values).movedim(part.dim, 0).flatten(1)
            total += along.sum(dim=1)[part.index.to(device)].sum(dim=1)
            number += part.index.shape[1] * along.shape[1]
        total = total if self.aggregate == "sum" else total / max(1, number)
        return (total.sqrt() if self.aggregate == "norm" else total).float().unsqueeze(1)

    def spread(self, chosen: Tensors) -> Tensors:
        """Return the masks of weights: those between kept channels."""
        flags = {name: values.squeeze(1) for name, values in chosen.items()}
        is_mask = all(values.dtype == torch.bool for values in flags.values())
        made: Tensors = {}
        for name, weight in self.evidence.weights.items():
            kind = torch.float32 if is_mask else next(iter(flags.values())).dtype
            mask = torch.ones([1] * weight.ndim, dtype=kind, device=weight.device)
            for dim, parts in self._parts_of(name).items():
                line = torch.ones(weight.shape[dim], dtype=kind, device=weight.device)
                for group, index in parts:
                    values = flags[group].to(line).repeat_interleave(index.shape[1])
                    line = line.index_copy(0, index.flatten().to(line.device), values)
                mask = mask * line.view([-1 if other == dim else 1 for other in range(weight.ndim)])
            mask = mask.expand(weight.shape)
            made[name] = mask.bool().contiguous() if is_mask else mask
        return made

    def _parts_of(self, name: str) -> dict[int, list[tuple[str, torch.Tensor]]]:
        parts: dict[int, list[tuple[str, torch.Tensor]]] = {}
        for group in self.coupling.groups:
            for part in group.slices:
                if part.tensor == name:
                    parts.setdefault(part.dim, []).append((group.name, part.index))
        return parts

    def limited(self, allocate: Allocation, cost: Cost) -> Allocation:
        """Return an allocation of channels: the most whose cost is within a limit."""
        shapes = self._shapes()
        total = sum(group.channels for group in self.coupling.groups)

        def within(scores: Tensors, layers: Sequence[Layer], limit: int) -> Counts:
            alive = sum(int((score > -math.inf).count_nonzero()) for score in scores.values())

            def counts(keep: int, unit: Channels = self) -> Counts:
                return unit._rounded(allocate(scores, layers, keep), scores)

            def price(counts: Counts) -> int:
                return cost(shapes(counts))

            low, high = _possible(lambda keep: allocate(scores, layers, keep), min(alive, total))
            keep = most_within(lambda keep: price(counts(keep)), limit, low, high)
            chosen = counts(keep)
            if (least := price(chosen)) > limit:
                few = f"the fewest channels that every group keeps take {least} {cost.counted}"
                raise ValueError(f"{few}{self._way_out(lambda unit: price(counts(low, unit)) <= limit)}")
            return chosen

        return within

    def _way_out(self, fits: Callable[[Channels], bool]) -> str:
        # The option that keeps more channels than the limit allows, or the layers that stay whole.
        if fits(replace(self, multiple=1)):
            return "; `multiple: 1` of the unit allows fewer"
        if fits(replace(self, multiple=1, least=0.0)):
            return "; a lower `least` of the unit allows fewer"
        if not self.coupling.whole:
            return ""
        layers = plural(len(self.coupling.whole), "layer")
        return f"; channels of {layers} stay whole, such as {next(iter(self.coupling.whole))}"

    def _rounded(self, counts: Counts, scores: Tensors) -> Counts:
        # At least one channel and `least` of a group; a multiple of channels where the group has more.
        made = {}
        for group in self.coupling.groups:
            alive = int((scores[group.name] > -math.inf).count_nonzero())
            width = min(part.index.shape[1] for part in group.slices)
            multiple = _fitting(group.channels) if self.multiple == "auto" else self.multiple
            step = multiple // math.gcd(multiple, width)
            least = max(1, math.ceil(self.least * group.channels))
            count = max(counts[group.name], least)
            if count < alive:
                count = max(count // step * step, min(alive, -(-least // step) * step))
            made[group.name] = min(alive, count)
        return made

    def _shapes(self) -> Callable[[Counts], Shapes]:
        # The shapes of the weights that numbers of channels leave.
        sizes = {group.name: group.channels for group in self.coupling.groups}
        about = [
            (
                name,
                tuple(weight.shape),
                {
                    dim: [(group, index.shape[1]) for group, index in parts]
                    for dim, parts in self._parts_of(name).items()
                },
            )
            for name, weight in self.evidence.weights.items()
        ]

        def shapes(counts: Counts) -> Shapes:
            left = {name: [*shape] for name, shape, _ in about}
            for name, _, parts in about:
                for dim, ways in parts.items():
                    left[name][dim] -= sum((sizes[group] - counts[group]) * width for group, width in ways)
            return left

        return shapes

    def slicing(self, chosen: Tensors) -> Slicing:
        """Return the smaller network between the kept channels."""
        flags = {name: values.squeeze(1) for name, values in chosen.items()}
        slicing = slicing_of(self.evidence.model, self.coupling.groups, flags)
        return replace(slicing, scales=self._scales(slicing)) if self.rescale else slicing

    def _scales(self, slicing: Slicing) -> dict[str, float]:
        # Initializers scale a layer's weights by 1 / sqrt(inputs).
        scales = {}
        for layer in self.evidence.layers:
            weight = self.evidence.weights[layer.name]
            inputs = 0 if layer.transposed else 1
            if weight.ndim > 1 and (kept := slicing.kept.get(layer.name, {}).get(inputs)) is not None:
                scales[layer.name] = math.sqrt(weight.shape[inputs] / len(kept))
        return scales

    def counts(self, chosen: Tensors) -> Mapping[str, Sequence[int]]:
        """Return the positions of the channels kept in every group."""
        return {name: values.squeeze(1).nonzero().flatten().tolist() for name, values in chosen.items()}


def _possible(allocate: Callable[[int], Counts], channels: int) -> tuple[int, int]:
    # The fewest and the most channels that an allocation can keep.
    try:
        allocate(1)
    except Impossible as error:
        return max(1, error.least), min(channels, error.most)
    return 1, channels


def _unmasked_share(evidence: Evidence) -> float:
    # The share of the multiply-adds in layers that are not prunable.
    covered = {*map(id, prunable_weights(evidence.model).values())}
    layers = torch.nn.Linear | torch.nn.modules.conv._ConvNd
    counted = {True: 0, False: 0}

    def count(module: Any, inputs: Any, output: Any) -> None:
        values = inputs[0] if getattr(module, "transposed", False) else output
        channels = values.shape[1] if isinstance(module, torch.nn.modules.conv._ConvNd) else values.shape[-1]
        counted[id(module.weight) in covered] += values.numel() // channels * module.weight.numel()

    hooks = [module.register_forward_hook(count) for module in evidence.model.modules() if isinstance(module, layers)]
    try:
        with torch.no_grad(), in_mode(evidence.model, training=False):
            call(evidence.model, resized(evidence.example(), 2))
    finally:
        for hook in hooks:
            hook.remove()
    return counted[False] / max(1, counted[True] + counted[False])


def _fitting(channels: int) -> int:
    return min(_BLOCK, 1 << max(0, (channels // _STEPS).bit_length() - 1))


@units.register(tensors_smaller=True, version=2)
def channel(
    evidence: Evidence,
    *,
    aggregate: Annotated[
        Aggregate,
        "score of a channel, over all weights that compute or read it: sum, mean, or norm, the root of the mean square",
    ] = "mean",
    normalize: Annotated[
        Literal["none", "layer", "group"],
        "divide scores by their mean: layer (of weights, before they are aggregated), group (of channels), or none",
    ] = "group",
    least: Annotated[float, Ge(0), Lt(1), "fraction of its channels that every group keeps at least"] = 0.0,
    multiple: Annotated[
        Literal["auto"] | Annotated[int, Ge(1)],
        "number of channels that a group keeps a multiple of; auto: the largest power of two up to 16, and up to an "
        "eighth of its channels",
    ] = "auto",
    rescale: Annotated[
        bool, "scale the initial weights to the smaller number of inputs, as an initializer of the smaller network does"
    ] = False,
) -> Unit:
    """Prune whole channels, with every layer that computes, reads or scales them: the network becomes smaller.

    Coupled channels leave together: through residual sums, normalizations, depthwise and grouped convolutions,
    concatenations; attention heads and the neurons of an MLP count as channels.

    Args:
        evidence: Network under full masks.
        aggregate: Score of a channel over all weights that compute or read it: their `sum`, their `mean`, or their
            `norm`, the root of the mean square.
        normalize: Scores divided by their mean over a `layer`'s weights, or over a `group`'s channels; or `none`.
        least: Fraction of its channels that every group keeps at least, in [0, 1).
        multiple: Number of channels that a group keeps a multiple of. By default the largest power of two up to 16,
            the block of channels that processors compute at once, and up to an eighth of the group's channels.
        rescale: Whether initial weights are scaled to the smaller number of inputs.

    Returns:
        The unit.

    Raises:
        ValueError: If the network cannot be recorded, or has no channels that may leave.

    References:
        Fang et al. 2023, arXiv 2301.12900 (DepGraph), for coupled channels.
    """
    with in_mode(evidence.model, training=False):
        coupling = find_groups(evidence.model, resized(evidence.example(), 2))
    coupling = replace(
        coupling, groups=tuple(g for g in coupling.groups if any(p.tensor in evidence.weights for p in g.slices))
    )
    if not coupling.groups:
        why = next(iter(coupling.whole.values()), "")
        raise ValueError(f"it has no channels that may leave{f': {why}' if why else ''}")
    if coupling.whole:
        first, why = next(iter(coupling.whole.items()))
        layers = plural(len(coupling.whole), "layer")
        evidence.note(f"channels of {layers} stay whole, such as {first}: {why}")
    if (share := _unmasked_share(evidence)) > _NOTED:
        evidence.note(
            f"layers that are not prunable take {share:.0%} of the network's multiply-adds, which budgets do not count"
        )
    return Channels(evidence, coupling, aggregate, normalize, least, multiple, rescale)
