"""Selections: scores and quotas -> masks with exactly that many ones in each layer.

A selection is `(scores, quotas, evidence) -> masks` for all layers, name -> tensor, so that it may use their joins;
-inf marks pruned weights. The registration states its cost in SynFlow passes (`flows_per_layer`). Facts: `blind`
ignores scores, `plain` uses nothing else, `draws` takes random numbers, `tuned` is the scorer's selection, and
`ranks` gives the values whose highest it keeps, for one that ranks single weights.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from autosparse.core.evidence import Evidence
from autosparse.core.graph.paths import effective_weights
from autosparse.core.weights import Layer, Tensors
from autosparse.lazy_torch import numpy, torch
from autosparse.registry import Range, Registry

selections: Registry[Callable[..., Tensors]] = Registry("selection", "selections")
_POSITION_BITS = 32


def keep_top(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Return a boolean mask with exactly `count` ones at the highest scores; ties keep the first.

    Args:
        scores: Scores of any shape; -inf marks pruned weights.
        count: Number of ones.

    Returns:
        Bool tensor of the shape and device of the scores.

    Raises:
        ValueError: If a score is NaN or fewer than `count` are above -inf.

    Examples:
        >>> keep_top(torch.tensor([0.3, 0.9, 0.3]), 2)
        tensor([ True,  True, False])
    """
    _check(scores, count)
    flat = scores.flatten()
    if count <= 0:
        return torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    threshold = reached_by(flat, count)
    mask = flat > threshold
    ties = (flat == threshold).nonzero().flatten()
    mask[ties[: count - int(mask.count_nonzero())]] = True
    return mask.reshape(scores.shape)


def _check(scores: torch.Tensor, count: int) -> None:
    if bool(scores.isnan().any()):
        raise ValueError(f"{int(scores.isnan().count_nonzero())} of {scores.numel()} scores are not numbers")
    if count > (left := int((scores > -math.inf).count_nonzero())):
        raise ValueError(f"{count} weights cannot be kept of the {left} that are left")


def ranks_of(scores: torch.Tensor) -> torch.Tensor:
    """Return the rank of every score among all, float64 in (0, 1), the highest nearest to 1; ties by position."""
    flat = scores.flatten()
    ranks = torch.empty(flat.shape, dtype=torch.float64, device=flat.device)
    positions = torch.arange(len(flat), 0, -1, dtype=torch.float64, device=flat.device)
    ranks[descending(flat)] = positions / (len(flat) + 1)
    return ranks.reshape(scores.shape)


@selections.register
def balanced(scores: Tensors, quotas: Mapping[str, int], evidence: Evidence) -> Tensors:
    """Spread the quota evenly over input and output channels, with the highest scores among them.

    Counts of output channels differ by at most one, and so do those of a group's input channels, unless weights
    pruned before leave no choice. Output channels choose one by one, each its best weights from the least chosen
    inputs.

    Args:
        scores: Scores, layer -> tensor of the weight's shape; -inf marks pruned weights.
        quotas: Layer -> number of weights to keep.
        evidence: Network under its present masks.

    Returns:
        Masks, layer -> bool tensor of the weight's shape and device, True for kept weights.
    """
    masks: Tensors = {}
    layers = evidence.layers_by_name
    for name, values in scores.items():
        layer = layers[name]
        even = spread_evenly(layer.spread(values).cpu(), quotas[name])
        masks[name] = layer.gather(even, values.shape).to(values.device)
    return masks


def spread_evenly(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Return a mask of `count` ones spread over the channels of `scores`, `[groups, outputs, inputs, kernel]`."""
    _check(scores, count)
    groups, outputs, inputs, kernel = scores.shape
    mask = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    quotas = _even_quotas(scores.reshape(groups * outputs, inputs * kernel), count).tolist()
    # The weights from each input to one output, the best first.
    ranked, positions = scores.sort(dim=3, descending=True, stable=True)
    chosen = torch.zeros(groups, inputs, dtype=torch.int64, device=scores.device)
    for row, left in enumerate(quotas):
        group, output = divmod(row, outputs)
        filled = torch.zeros(inputs, dtype=torch.int64, device=scores.device)
        while left:
            best = ranked[group, output].gather(1, filled.clamp_max(kernel - 1)[:, None])[:, 0]
            best = best.masked_fill(filled == kernel, -math.inf)
            order = best.argsort(descending=True, stable=True)[: int((best > -math.inf).sum())]
            order = order[chosen[group, order].argsort(stable=True)][:left]
            mask[group, output, order, positions[group, output, order, filled[order]]] = True
            filled[order] += 1
            chosen[group, order] += 1
            left -= len(order)
    return mask


def _even_quotas(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Return the counts that rows of `[rows, weights]` keep: one level for all, the rest to the best next scores."""
    alive = (scores > -math.inf).sum(dim=1)
    low, high = 0, scores.shape[1]
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if int(alive.clamp_max(middle).sum()) <= count else (low, middle - 1)
    quotas = alive.clamp_max(low)
    if left := count - int(quotas.sum()):
        following = scores.topk(low + 1, dim=1).values[:, low].masked_fill(alive <= low, -math.inf)
        quotas[following.argsort(descending=True, stable=True)[:left]] += 1
    return quotas


@selections.register(flows_per_layer=2, source="Pham et al. 2023, node-path balance")
def paths(
    scores: Tensors,
    quotas: Mapping[str, int],
    evidence: Evidence,
    *,
    spread: Annotated[
        float,
        Ge(0),
        Le(1),
        Range(0, 1),
        "fraction of a layer's quota spread over channels, after one weight per channel",
    ] = 0.25,
) -> Tensors:
    """Maximize the channels and then the paths within the quotas, layer by layer (NPB: Pham et al. 2023).

    The number of paths is linear in one layer's weights, so the best choice given the other layers is exact: one
    weight for every channel joined to input and output (ties by best score), then the weights that most paths would
    pass. The layers are optimized one after another, in several sweeps. The start prefers the first channels of each
    layer, which become a dense core. Takes two passes of the network for every layer, three if weights are left on no
    path; memory of a few copies of the weights. The authors' integer programs consider one layer and its incoming
    paths.

    Args:
        scores: Scores, layer -> tensor of the weight's shape; -inf marks pruned weights.
        quotas: Layer -> number of weights to keep.
        evidence: Network under its present masks.
        spread: Share of a layer's quota that is spread over channels, in [0, 1].

    Returns:
        Masks, layer -> bool tensor of the weight's shape and device, True for kept weights.

    References:
        Pham et al. 2023, "Towards data-agnostic pruning at initialization: what makes a good sparse mask?" (NPB).
    """
    layers = evidence.layers_by_name
    preferred = {name: _preference(layers[name], values) for name, values in scores.items()}
    value = _passing(evidence, preferred)
    masks = {
        name: _fill(layers[name], values, value[name] * preferred[name], quotas[name], spread)
        for name, values in scores.items()
    }
    for turn in range(_TURNS):
        for name, values in scores.items():
            if 0 < quotas[name] < values.numel():
                value = _passing(evidence, {**masks, name: values > -math.inf})
                masks[name] = _fill(layers[name], values, value[name], quotas[name], spread)
        on_path = effective_weights(replace(evidence, masks=masks))
        if turn and all(torch.equal(on_path[name], mask) for name, mask in masks.items()):
            break
    return masks


_TURNS = 3


def _preference(layer: Layer, scores: torch.Tensor) -> torch.Tensor:
    """Return weights that fall with the channel index: summed layers then prefer the same channels."""
    groups, outputs, inputs, _ = layer.spread(scores).shape
    output, input = (
        1 / torch.arange(1, groups * side + 1, dtype=torch.float64, device=scores.device) for side in (outputs, inputs)
    )
    parts = output.reshape(groups, outputs, 1, 1) * input.reshape(groups, 1, inputs, 1)
    alive = layer.spread((scores > -math.inf).double())
    return layer.gather(parts * alive, scores.shape)


def _passing(evidence: Evidence, weights: Mapping[str, torch.Tensor]) -> Tensors:
    """Return the number of paths that would pass each weight if present: the flow network's gradient."""
    for scaled in (False, True):
        leaves = {
            layer.name: (weights[layer.name].double() / (layer.fan_in if scaled else 1)).requires_grad_()
            for layer in evidence.layers
        }
        _, gradient = evidence.flow_gradient(leaves, paths_only=True)
        if all(bool(part.isfinite().all()) for part in gradient.values()):
            break  # else the number of paths exceeds float64
    return gradient


def _fill(layer: Layer, scores: torch.Tensor, value: torch.Tensor, quota: int, spread: float) -> torch.Tensor:
    alive = scores > -math.inf
    joined = alive & (value > 0)
    # Weights that no path would pass come last, the rest by paths, ties by score.
    ranked = value.masked_fill(~joined, 0.0) * (1 + 1e-9 * ranks_of(scores))
    ranked = ranked.masked_fill(~alive, -math.inf)
    parts = layer.spread(joined)
    nodes = max(int(parts.any(dim=3).any(dim=1).sum()), int(parts.any(dim=3).any(dim=2).sum()))
    first = min(quota, int(joined.sum()), max(nodes, round(spread * quota)))
    even = spread_evenly(layer.spread(scores.double().masked_fill(~joined, -math.inf)).cpu(), first)
    chosen = layer.gather(even, scores.shape).to(scores.device)
    return keep_top(ranked.masked_fill(chosen, math.inf), quota)


def _drawn(scores: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    drawn = torch.rand(scores.shape, generator=generator, device="cpu").to(scores.device)
    return drawn.masked_fill(scores == -math.inf, -math.inf)


def _sampled(scores: torch.Tensor, generator: torch.Generator, *, temperature: float) -> torch.Tensor:
    return _standard(scores) / temperature + gumbel(scores, generator)


@selections.register(blind=True, draws=True, ranks=_drawn, source="Su et al. 2020; Frankle et al. 2021")
def shuffle(scores: Tensors, quotas: Mapping[str, int], evidence: Evidence) -> Tensors:
    """Fill the layer's quota at random, which isolates the effect of the quotas.

    Args:
        scores: Scores, layer -> tensor of the weight's shape; -inf marks pruned weights.
        quotas: Layer -> number of weights to keep.
        evidence: Network under its present masks.

    Returns:
        Masks, layer -> bool tensor of the weight's shape and device, True for kept weights.

    References:
        Su et al. 2020, arXiv 2009.11094; Frankle et al. 2021, arXiv 2009.08576.
    """
    return {name: keep_top(_drawn(values, evidence.generator), quotas[name]) for name, values in scores.items()}


@selections.register(draws=True, ranks=_sampled, source="Kool et al. 2019, Gumbel top-k")
def sampled(
    scores: Tensors,
    quotas: Mapping[str, int],
    evidence: Evidence,
    *,
    temperature: Annotated[
        float, Gt(0), Range(0.01, 10, log=True), "0.01 is almost the highest scores, 100 almost any weights"
    ] = 1.0,
) -> Tensors:
    """Draw by softmax of a layer's standardized scores over `temperature` (Kool et al. 2019, Gumbel top-k).

    Keeping the highest scores plus Gumbel noise samples without replacement, in logarithms: no probability
    underflows and the count is exact. Standardized scores make it independent of their scale; a layer of equal
    scores is drawn uniformly.

    Args:
        scores: Scores, layer -> tensor of the weight's shape; -inf marks pruned weights.
        quotas: Layer -> number of weights to keep.
        evidence: Network under its present masks.
        temperature: Divisor of the standardized scores; towards 0 the highest scores win, towards infinity any.

    Returns:
        Masks, layer -> bool tensor of the weight's shape and device, True for kept weights.

    References:
        Kool, van Hoof & Welling 2019, arXiv 1903.06059.
    """
    return {
        name: keep_top(_sampled(values, evidence.generator, temperature=temperature), quotas[name])
        for name, values in scores.items()
    }


def _standard(scores: torch.Tensor) -> torch.Tensor:
    values = scores.double()
    if bool(values.isnan().any()):
        return values  # `keep_top` raises
    alive = values[values.isfinite()]
    if not alive.numel():
        return values
    spread = alive.std(unbiased=False)
    # Pruned weights stay at -inf.
    return (values - alive.mean()) / torch.where(spread > 0, spread, 1.0)


def gumbel(scores: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw Gumbel noise of the shape and device of scores, float64."""
    uniform = torch.rand(scores.shape, generator=generator, dtype=torch.float64, device="cpu")
    return -(-uniform.clamp_min(1e-300).log()).log().to(scores.device)


@selections.register(plain=True, ranks=lambda scores, generator: scores)
def top(scores: Tensors, quotas: Mapping[str, int], evidence: Evidence) -> Tensors:
    """Keep the highest scores.

    Args:
        scores: Scores, layer -> tensor of the weight's shape; -inf marks pruned weights.
        quotas: Layer -> number of weights to keep.
        evidence: Network under its present masks.

    Returns:
        Masks, layer -> bool tensor of the weight's shape and device, True for kept weights.

    Examples:
        >>> from autosparse import prune
        >>> from autosparse.lazy_torch import torch
        >>> model = torch.nn.Linear(3, 1, bias=False)
        >>> _ = model.load_state_dict({"weight": torch.tensor([[0.5, -2.0, 0.1]])})
        >>> prune(model, sparsity=0.6, method={"criterion": "magnitude", "selection": "top"})["weight"]
        tensor([[False,  True, False]])
    """
    return {name: keep_top(values, quotas[name]) for name, values in scores.items()}


@selections.register(tuned=True)
def tuned(scores: Tensors, quotas: Mapping[str, int], evidence: Evidence) -> Tensors:
    """Apply the scorer's selection: the best of `tuning.selections`, or its default.

    Args:
        scores: Scores, layer -> tensor of the weight's shape; -inf marks pruned weights.
        quotas: Layer -> number of weights to keep.
        evidence: Network under its present masks.

    Returns:
        Masks, layer -> bool tensor of the weight's shape and device, True for kept weights.
    """
    return _resolved(tuned, evidence)(scores, quotas, evidence)


def draws(select: Callable[..., Tensors], evidence: Evidence) -> bool:
    """Return whether a selection, or the scorer's, takes random numbers: it breaks ties by itself."""
    return bool(_facts_of(_resolved(select, evidence)).get("draws", False))


def ranking(select: Callable[..., Tensors], evidence: Evidence) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Return the function from scores to the values whose highest a selection keeps; None if it ranks no weights.

    The scorer's selection ranks by the scores if it is such a one.
    """
    chosen = _resolved(select, evidence)
    ranks = _facts_of(chosen).get("ranks")
    if ranks is None:
        return None if chosen is select else lambda scores: scores
    return partial(ranks, generator=evidence.generator, **getattr(chosen, "keywords", {}))


def _resolved(select: Callable[..., Tensors], evidence: Evidence) -> Callable[..., Tensors]:
    select = inspect.unwrap(select)
    if getattr(select, "func", select) is not tuned:
        return select
    chosen = evidence.scorer.select if evidence.scorer else None
    return chosen or top


def _facts_of(select: Callable[..., Tensors]) -> Mapping[str, Any]:
    function = getattr(select, "func", select)
    return next((entry.facts for entry in selections if entry.function is function), {})


def ascending(values: torch.Tensor) -> torch.Tensor:
    """Return positions of a vector's values from the lowest to the highest, int64; ties by position.

    Equals `argsort(stable=True)`, NaN last. On a CPU the bits of float32 values become integers in the same order,
    with their positions appended: sorting integers is many times as fast as sorting pairs.
    """
    if values.device.type != "cpu" or values.dtype != torch.float32 or len(values) >= 2 ** (_POSITION_BITS - 1):
        return values.argsort(stable=True)
    if bool(values.isnan().any()):  # whose bits have no order
        return values.argsort(stable=True)
    bits = (values.detach() + 0.0).view(torch.int32)  # -0.0 becomes 0.0, which it equals
    bits = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # of negative values the larger bits are the lower value
    packed = (bits.long() << _POSITION_BITS) | torch.arange(len(values), device=values.device)
    order: torch.Tensor = torch.from_numpy(numpy.sort(packed.numpy())) & (2**_POSITION_BITS - 1)
    return order


def descending(values: torch.Tensor) -> torch.Tensor:
    """Return positions from the highest value to the lowest; ties by position. No value is NaN."""
    return ascending(-values)


def reached_by(values: torch.Tensor, count: int) -> torch.Tensor:
    """Return the `count`-th highest of a vector's values, `count` in [1, len(values)]. No value is NaN."""
    if values.device.type != "cpu" or values.dtype != torch.float32:
        return values.topk(count, sorted=False).values.min()
    index = len(values) - count
    return torch.from_numpy(numpy.partition(values.detach().numpy(), index))[index].clone()
