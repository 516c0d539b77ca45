"""Update rules by name: dynamic sparse training, gradual pruning, alternating and iterative pruning.

A rule is `(pruning, generator) -> MaskUpdates`: the method's other choices with the number of weights to keep, and the
source of random draws. Facts: `starts` is `sparse` for a rule that begins with the method's masks and ends with as many
weights, `dense` for one that prunes trained weights by the method's criterion and allocation; `cycles`, a function of
the options, gives the number of trainings; `needs_example`, if it runs the network on inputs of their shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from autosparse.core.schedule import Pruning, exponential_counts
from autosparse.core.selection import gumbel, keep_top
from autosparse.core.training.updates import MaskUpdates, Moment
from autosparse.core.weights import Tensors, full_masks, kept
from autosparse.lazy_torch import torch
from autosparse.registry import Added, Range, Registry

update_rules: Registry[Callable[..., MaskUpdates]] = Registry("update rule", "updates")

Share = Annotated[float, Ge(0), Le(1)]
Every = Annotated[
    Annotated[int, Ge(1)] | Literal["auto"],
    "number of training steps between two updates; auto: 100, or fewer for 40 updates in a short training",
]
End = Annotated[Share, "last update, as a share of the steps"]


@update_rules.register(starts="sparse")
def none(pruning: Pruning, generator: torch.Generator) -> MaskUpdates:
    """Keep the masks during training: pruning at initialization.

    Args:
        pruning: Network, the number of weights to keep, and the method's other choices.
        generator: Source of random draws, on the CPU.

    Returns:
        Updates that never happen.
    """
    return MaskUpdates(lambda step, steps: False, lambda moment: moment.masks)


@update_rules.register(starts="sparse", source="Evci et al. 2020, algorithm 1; Mocanu et al. 2018")
def drop_and_grow(
    pruning: Pruning,
    generator: torch.Generator,
    *,
    grow: Annotated[
        Literal["gradient", "random"], "criterion of growth: largest gradient (RigL), or random weights (SET)"
    ] = "gradient",
    drop: Annotated[
        Literal["magnitude", "sensitivity"], "criterion of removal: smallest |w|, or smallest |w g|"
    ] = "magnitude",
    share: Annotated[Share, Gt(0), Range(0.1, 0.5), "share of a layer's kept weights that an update replaces"] = 0.3,
    decay: Annotated[
        Literal["cosine", "constant"], "decay of `share` over the updates: cosine to 0 at `end`, or none"
    ] = "cosine",
    every: Every = "auto",
    end: End = 0.75,
    within: Annotated[
        Literal["layer", "output"],
        Added(),
        "part that keeps its number of weights: a layer, or every output of it (constant fan-in)",
    ] = "layer",
) -> MaskUpdates:
    """Replace weights while training: layers drop their weakest weights and grow as many others, from zero (RigL, SET).

    Every layer keeps its number of weights. A dropped weight may grow again at once and then keeps its value. With
    `grow: gradient` an update takes the place of the optimizer's step, as in the authors' code; with `grow: random` it
    follows the step. The optimizer's state of grown weights starts from zero. With `within: output` and selection
    `balanced` every output of a layer keeps as many weights, within one (constant fan-in, as in SRigL, which also
    removes outputs).

    Args:
        pruning: Network, the number of weights to keep, and the method's other choices.
        generator: Source of random draws, on the CPU.
        grow: Score of weights to grow: `gradient`, |dL/dw| of one batch, or `random`.
        drop: Score of weights to drop, lowest first: `magnitude`, |w|, or `sensitivity`, |w dL/dw|.
        share: Share of a layer's kept weights that the first update replaces.
        decay: `cosine` to zero at `end`, or `constant`.
        every: Number of training steps between two updates; `auto` is 100, or a fortieth of a shorter training.
        end: Share of the steps after which masks stay.
        within: `layer` or `output`, the part in which as many weights are grown as dropped.

    Returns:
        Updates at steps 0, `every`, 2 `every`, ... before `end`.

    References:
        RigL: Evci et al. 2020, arXiv 1911.11134, algorithm 1. SET: Mocanu et al. 2018, arXiv 1707.04780.
        SRigL: Lasby et al. 2024, arXiv 2305.02299.
    """

    layers = pruning.evidence.layers_by_name

    def change(moment: Moment) -> Tensors:
        part = share
        if decay == "cosine":
            part *= (1 + math.cos(math.pi * moment.step / (end * moment.steps))) / 2
        masks: Tensors = {}
        for name, mask in moment.masks.items():
            weight, gradient = moment.weights[name].abs(), moment.gradients[name].abs()
            weakest = weight if drop == "magnitude" else weight * gradient
            drawn = gradient if grow == "gradient" else _uniform(weight, generator)
            if within == "output":
                layer = layers[name]
                spread = [layer.spread(values) for values in (mask, weakest, drawn)]
                masks[name] = layer.gather(exchanged_in_rows(spread[0], spread[1], spread[2], part), mask.shape)
            else:
                masks[name] = exchanged(mask, weakest, drawn, int(part * int(mask.count_nonzero())))
        return masks

    return MaskUpdates(_regular(0.0, end, every), change, replaces_step=grow == "gradient", generator=generator)


def exchanged(mask: torch.Tensor, strength: torch.Tensor, promise: torch.Tensor, count: int) -> torch.Tensor:
    """Return a mask without the `count` kept weights of lowest strength, and with the `count` others of most promise.

    A removed weight is among the others. Ties keep and add the first.
    """
    stays = keep_top(strength.masked_fill(~mask, -math.inf), int(mask.count_nonzero()) - count)
    return stays | keep_top(promise.masked_fill(stays, -math.inf), count)


def exchanged_in_rows(mask: torch.Tensor, strength: torch.Tensor, promise: torch.Tensor, part: float) -> torch.Tensor:
    """Exchange a `part` of the kept weights of a layer `[groups, outputs, inputs, kernel]`, within every output.

    Outputs whose share is no whole number give one more, those with the largest remainder and the weakest weight first,
    until the layer's number is reached.
    """
    present, strong, next_best = (values.flatten(0, 1).flatten(1) for values in (mask, strength, promise))
    kept = present.sum(dim=1, keepdim=True)
    exact = part * kept.double()
    count = exact.long()
    more = int(part * int(kept.sum())) - int(count.sum())
    weakest = strong.masked_fill(~present, math.inf).amin(dim=1)
    first = weakest.argsort(stable=True)
    first = first[(exact - count).flatten()[first].argsort(descending=True, stable=True)]
    first = first[(exact > count).flatten()[first]][:more]
    count[first] += 1
    stays = _highest(strong.masked_fill(~present, -math.inf), kept - count)
    grown = _highest(next_best.masked_fill(stays, -math.inf), count)
    return (stays | grown).view(mask.shape)


def _highest(scores: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    # The `counts` highest of every row; ties keep the first.
    order = scores.argsort(dim=1, descending=True, stable=True)
    chosen = torch.arange(scores.shape[1], device=scores.device) < counts
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, order, chosen)


@update_rules.register(starts="sparse", needs_example=True, source="Yao & Dovrolis 2025, PWMPR")
def path_growth(
    pruning: Pruning,
    generator: torch.Generator,
    *,
    start: Annotated[
        Share, Gt(0), Range(0.1, 1.0), "share of the weights to keep that are present after the first step"
    ] = 0.5,
    end: End = 0.75,
    every: Every = "auto",
) -> MaskUpdates:
    """Grow weights while training, drawn in proportion to the weights on their paths (PWMPR).

    Begins with a share of the method's masks and adds as many weights at every update, all layers together, from zero.
    The probability of a weight is the sum over all paths through it of the product of the other weights' sizes: the
    gradient of the flow in SynFlow's linear positive network, which needs no images. Where fewer weights lie on paths
    than are to be drawn, the others follow uniformly. The authors also search the density at which accuracy stops to
    rise; here it is the budget's.

    Args:
        pruning: Network, the number of weights to keep, and the method's other choices.
        generator: Source of random draws, on the CPU.
        start: Share of the weights to keep that the first update leaves, drawn among the method's masks.
        end: Share of the steps at which the number of weights is reached.
        every: Number of training steps between two updates; `auto` is 100, or a fortieth of a shorter training.

    Returns:
        Updates at step 0, every `every` steps, and one at `end`.

    References:
        Yao & Dovrolis 2025, arXiv 2509.25665.
    """
    due, last_of = _until(end, every)

    def change(moment: Moment) -> Tensors:
        last = last_of(moment.steps)
        part = start + (1 - start) * moment.step / last if last else 1.0
        keep = max(1, round(part * pruning.keep))
        absent = moment.masks if moment.step == 0 else {name: ~mask for name, mask in moment.masks.items()}
        more = keep if moment.step == 0 else keep - sum(kept(moment.masks).values())
        drawn = drawn_by(path_products(pruning, moment), absent, more, generator)
        return drawn if moment.step == 0 else {name: mask | drawn[name] for name, mask in moment.masks.items()}

    return MaskUpdates(due, change, generator=generator)


def path_products(pruning: Pruning, moment: Moment) -> Tensors:
    """Return the sum over the paths through each weight of the product of the sizes of their other weights, float64.

    Every path passes present weights alone, apart from the weight itself. Raises ValueError if a sum is not finite.
    """
    evidence = replace(pruning.evidence, trained=moment.state()).masked(moment.masks)
    leaves = {name: weight.detach().abs().double().requires_grad_() for name, weight in evidence.weights.items()}
    _, gradient = evidence.flow_gradient(leaves)
    for name, values in gradient.items():
        if not bool(values.isfinite().all()):
            raise ValueError(f"the products of weights on paths through layer {name} are not finite numbers")
    return gradient


def drawn_by(scores: Tensors, among: Tensors, count: int, generator: torch.Generator) -> Tensors:
    """Return masks of `count` weights `among` those of masks, drawn without replacement in proportion to their scores.

    Weights of score zero follow when no others are left, uniformly. Scores are not negative.
    """
    # The highest logarithms plus Gumbel noise are such a sample (Kool et al. 2019).
    keys = []
    for name, values in scores.items():
        chance = values.double().cpu()
        chance = torch.where(chance > 0, chance.clamp_min(1e-300).log(), _NEVER) + gumbel(chance, generator)
        keys.append(chance.masked_fill(~among[name].cpu(), -math.inf).flatten())
    chosen = keep_top(torch.cat(keys), count).split([part.numel() for part in keys])
    parts = zip(scores.items(), chosen, strict=True)
    return {name: part.view(values.shape).to(values.device) for (name, values), part in parts}


_NEVER = -1e6  # below the logarithm of every positive number


@update_rules.register(starts="dense", source="Zhu & Gupta 2017, eq. 1")
def gradual(
    pruning: Pruning,
    generator: torch.Generator,
    *,
    begin: Annotated[Share, "first update, as a share of the steps"] = 0.0,
    end: End = 0.75,
    every: Every = "auto",
) -> MaskUpdates:
    """Prune gradually while training: trained weights with the lowest scores go, by a cubic schedule (GMP).

    Starts dense. The criterion scores the trained network, `magnitude` by |w|; the allocation is repeated at every
    update, such as `global` or `uniform`. Pruned weights stay pruned.

    Args:
        pruning: Network, the number of weights to keep, and the method's other choices.
        generator: Source of random draws, on the CPU.
        begin: Share of the steps before the first update.
        end: Share of the steps at which the number of weights is reached.
        every: Number of training steps between two updates; `auto` is 100, or a fortieth of a shorter training.

    Returns:
        Updates every `every` steps from `begin` on, and one at `end`.

    References:
        Zhu & Gupta 2017, arXiv 1710.01878, eq. 1.
    """
    due, last_of = _until(end, every, begin)

    def change(moment: Moment) -> Tensors:
        last = last_of(moment.steps)
        first = min(last, math.ceil(begin * moment.steps))
        left = 1 - (moment.step - first + 1) / (last - first + 1)
        return _pruned(pruning, moment, pruning.keep + round(left**3 * (pruning.total - pruning.keep)))

    return MaskUpdates(due, change)


@update_rules.register(starts="dense", source="Peste et al. 2021, algorithm 1")
def alternating(
    pruning: Pruning,
    generator: torch.Generator,
    *,
    phases: Annotated[int, Ge(1), "number of sparse phases, each followed by a dense one but for the last"] = 8,
    begin: Annotated[Share, "first sparse phase, as a share of the steps"] = 0.1,
    end: Annotated[Share, Gt(0), "last sparse phase, which lasts until the training ends"] = 0.85,
) -> MaskUpdates:
    """Alternate sparse and dense phases while training, and end with a sparse one (AC/DC).

    Starts dense. A sparse phase begins with the highest scores of all trained weights, `magnitude` by |w|; in a dense
    phase the pruned weights train again, from zero. Phases between `begin` and `end` are equally long.

    Args:
        pruning: Network, the number of weights to keep, and the method's other choices.
        generator: Source of random draws, on the CPU.
        phases: Number of sparse phases.
        begin: Share of the steps before the first sparse phase.
        end: Share of the steps before the last sparse phase.

    Returns:
        Updates at the beginning of every phase.

    References:
        Peste et al. 2021, arXiv 2106.12379, algorithm 1.
    """
    switches = 2 * (phases - 1)

    def steps_of(steps: int) -> dict[int, bool]:
        # Step -> whether a sparse phase begins there; of phases shorter than a step the last one counts.
        at = [begin + (end - begin) * number / switches for number in range(switches)] + [end]
        return {min(steps - 1, math.ceil(share * steps)): number % 2 == 0 for number, share in enumerate(at)}

    def change(moment: Moment) -> Tensors:
        if steps_of(moment.steps)[moment.step]:
            return _pruned(pruning, moment, pruning.keep)
        return full_masks(moment.weights)

    return MaskUpdates(lambda step, steps: step in steps_of(steps), change)


@update_rules.register(
    starts="dense", cycles=lambda options: options["rounds"] + 1, source="Renda et al. 2020, algorithm 3"
)
def iterative(
    pruning: Pruning,
    generator: torch.Generator,
    *,
    rounds: Annotated[int, Ge(1), "number of rounds; the network trains once before, and once after each"] = 5,
) -> MaskUpdates:
    """Prune after each of several trainings that continue from the trained weights (learning-rate rewinding).

    Starts dense. Every training repeats the whole learning-rate schedule; after each but the last the same share of the
    remaining weights goes, lowest scores first. Costs `rounds` + 1 trainings.

    Args:
        pruning: Network, the number of weights to keep, and the method's other choices.
        generator: Source of random draws, on the CPU.
        rounds: Number of rounds of pruning.

    Returns:
        Updates at the end of every training but the last.

    References:
        Renda, Frankle & Carbin 2020, arXiv 2003.02389, algorithm 3.
    """
    counts = exponential_counts(pruning.total, pruning.keep, rounds)

    def due(step: int, steps: int) -> bool:
        return (step + 1) % (steps // (rounds + 1)) == 0 and step + 1 < steps

    def change(moment: Moment) -> Tensors:
        number = (moment.step + 1) // (moment.steps // (rounds + 1))
        return _pruned(pruning, moment, counts[number - 1])

    return MaskUpdates(due, change, cycles=rounds + 1)


def starts_dense(choice: Mapping[str, Any]) -> bool:
    """Return whether a keyed choice of an update rule trains from full masks."""
    return bool(update_rules[choice["name"]].facts["starts"] == "dense")


def cycles_of(choice: Mapping[str, Any]) -> int:
    """Return the number of trainings that a keyed choice of an update rule takes."""
    count = update_rules[choice["name"]].facts.get("cycles")
    return int(count(choice["options"])) if count else 1


def _regular(begin: float, end: float, every: int | Literal["auto"]) -> Callable[[int, int], bool]:
    def due(step: int, steps: int) -> bool:
        first = math.ceil(begin * steps)
        interval = max(1, min(_USUAL, steps // _UPDATES)) if every == "auto" else every
        return first <= step < end * steps and (step - first) % interval == 0

    return due


def _until(
    end: float, every: int | Literal["auto"], begin: float = 0.0
) -> tuple[Callable[[int, int], bool], Callable[[int], int]]:
    # Whether masks change at a step: regularly, and at the last one, which the second function returns.
    regular = _regular(begin, 1.0, every)

    def last_of(steps: int) -> int:
        return round(end * (steps - 1))

    def due(step: int, steps: int) -> bool:
        last = last_of(steps)
        return step == last or (regular(step, steps) and step < last)

    return due, last_of


_USUAL, _UPDATES = 100, 40  # steps between updates, as published, and updates of a training that is too short for it


def _pruned(pruning: Pruning, moment: Moment, keep: int) -> Tensors:
    # The masks with the highest scores of the trained weights among those that are left.
    evidence = replace(pruning.evidence, trained=moment.state()).masked(moment.masks)
    scores = pruning.scored(evidence)
    scores = {name: values.masked_fill(~moment.masks[name], -math.inf) for name, values in scores.items()}
    return pruning.chosen(scores, keep, moment.masks, evidence, last=keep == pruning.keep)


def _uniform(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(like.shape, generator=generator).to(like.device)
