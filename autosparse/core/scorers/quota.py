"""Layer quotas learned from layer features: a departure from quotas that need no learning."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from autosparse.core.features import Features
from autosparse.core.scorers._base import scorers
from autosparse.core.weights import Tensors
from autosparse.lazy_torch import torch
from autosparse.registry import OneOf, Range

Start = Literal["igq", "erk"]
Order = Literal["magnitude", "gradient", "sensitivity", "flow"]

_LAYER = ("fan_in", "fan_out", "kernel", "stride", "share", "place", "first", "last")  # columns of group `layer`
_FACTS = ("layer", "joins", "standing")
_LEFT = "remaining"
_LEVELS = 32  # of survival at which quotas are compared
_FROM = 0.5  # largest remaining share at which layer quotas are informative
_REACH = 2.0  # standard deviations at which the facts of an unseen layer are clipped
_STEEPEST = 0.25  # least exponent: a layer always loses weights when the network does


def predict(state: Tensors, features: Features) -> Tensors:
    """Return scores of every weight, layer -> `[weights]`: one threshold over all gives each layer its quota.

    A weight below a share u of its layer scores (a - link(u)) / b, with a and b of its layer and the link of the
    starting quotas. Above a threshold -p lies the share whose link is a + b p, also in a partly pruned layer.
    With nothing learned b is 1, and the quotas are the starting ones.

    Args:
        state: State that `quota` returned.
        features: Feature table with the groups of the scorer.

    Returns:
        Scores, layer -> float tensor `[weights]`.
    """
    quotas = _STARTS[int(state["start"])]
    scores: Tensors = {}
    for name, values in features.values.items():
        facts = _facts(features, name)
        known = _standard(state, facts)
        level = float(quotas.worth(facts) + known @ state["level"].cpu())
        exponent = max(_STEEPEST, float(1 + known @ state["exponent"].cpu()))
        left = math.exp(float(values[0, features.columns.index(_LEFT)]))
        size = features.sizes.get(name, len(values)) * left
        rank = values[:, int(state["column"])]
        rank = (rank.cpu() if rank.device.type == "mps" else rank).double()  # which Apple's GPUs lack
        above = ((1 - rank) * (1 - 1 / size) + 0.5 / size) * left
        scores[name] = ((level - quotas.link(above)) / exponent).float().to(values.device)
    return scores


@scorers.register(
    predict=predict,
    learns_below=_FROM,
    selection="shuffle",
    objective="quotas",
    groups=lambda options: ("layer", *options["facts_used"], _LEFT, options["order"]),
    source="base quotas: Vysogorets & Kempe 2023, Evci et al. 2020; survivors: AutoSparse, arXiv 2408.14757",
)
def quota(
    features: Features,
    labels: Tensors,
    generator: torch.Generator,
    observe: Callable[[int, int], None] = lambda done, total: None,
    *,
    facts_used: Annotated[
        tuple[Literal["joins", "standing"], ...], "feature groups of layers, in addition to `layer`"
    ] = ("joins",),
    start: Annotated[Start, OneOf(("igq", "erk")), "base quotas: ideal gas or Erdős-Rényi kernel"] = "igq",
    strength: Annotated[
        float, Ge(0), Le(1), Range(0, 1), "strength of the learned correction: 0 is the base quotas, 1 all of it"
    ] = 1.0,
    ridge: Annotated[
        float, Gt(0), Range(0.03, 30, log=True), "ridge penalty on the correction, in units of one layer"
    ] = 0.3,
    order: Annotated[Order, "ranking of the weights within a layer: |w|, |g|, |w g|, or the paths through a weight"] = (
        "magnitude"
    ),
) -> Tensors:
    """Learn layer quotas by ridge regression from layer facts; `order` ranks the weights inside a layer.

    In the network that IRP has pruned to a share d, layer l keeps a share d_l. Ideal gas quotas give
    logit(d_l) = p - log n_l, n_l being its size. Erdős-Rényi kernel quotas give log(d_l) = p + log(r_l), at most 0,
    r_l being its dimensions' sum over their product. All layers share one price p. The scorer learns the departure
    f + h p from either, up to a constant that all layers share. f and h are linear in the layer's facts and shrunk
    to 0: a network with unseen kinds of layers gets the starting quotas. In closed form; two numbers for each fact.

    Args:
        features: Feature table of the IRP's network, layer -> `[weights, columns]`.
        labels: Share of the rounds that each weight survives, in [0, 1], layer -> `[weights]`.
        generator: Source of all random draws, on the CPU.
        observe: Function that is called with the number of finished updates and their total.
        facts_used: Groups of layer facts that the scorer sees in addition to `layer`.
        start: Quotas that learned ones depart from: `igq` or `erk`.
        strength: Scale of the departure, in [0, 1]; 0 gives the starting quotas.
        ridge: Strength of the pull towards the starting quotas, in layers' worth of evidence.
        order: Feature that ranks the weights inside a layer.

    Returns:
        State of the scorer, name -> tensor, that its `predict` takes.

    References:
        Starting quotas: Vysogorets & Kempe 2023, arXiv 2107.02306; Evci et al. 2020, arXiv 1911.11134.
        Survivors: AutoSparse, arXiv 2408.14757.
    """
    every = torch.stack([_facts(features, name) for name in features.values])
    mean, spread = every.mean(dim=0), every.std(dim=0, correction=0)
    state: Tensors = {
        "mean": mean,
        "spread": torch.where(spread > 1e-6, spread, 1e30),  # constant facts are ignored
        "start": torch.tensor([*_NAMES].index(start)),
        "column": torch.tensor(features.columns.index(order)),  # of a group, the first column is the rank
    }
    sources = list(dict.fromkeys(name.rpartition(":")[0] for name in features.values))
    evidence = [one for source in sources for one in _evidence(features, labels, source, _NAMES[start], state)]
    size = every.shape[1]
    departure = torch.zeros(2 * size, dtype=torch.float64)
    if evidence:
        seen, price, target = (torch.cat(parts) for parts in zip(*evidence, strict=True))
        table = torch.cat([seen, seen * price[:, None]], dim=1)
        weight = 1 / max(1, len(evidence) // max(1, len(sources)))  # the rounds of a layer are one piece of evidence
        pull = ridge * torch.eye(2 * size, dtype=torch.float64)
        departure = torch.linalg.solve(weight * table.T @ table + pull, weight * table.T @ target)
    observe(1, 1)
    return state | {"level": strength * departure[:size], "exponent": strength * departure[size:]}


def _evidence(
    features: Features, labels: Tensors, source: str, quotas: _Quotas, state: Tensors
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    # For each round of a source: standardized facts of the layers, the price, and the departure from the quotas.
    names = [name for name in features.values if name.rpartition(":")[0] == source]
    sizes = torch.tensor([float(features.sizes.get(name, labels[name].numel())) for name in names]).double()
    facts = torch.stack([_facts(features, name) for name in names])
    worth = torch.stack([quotas.worth(row) for row in facts])
    shares = [labels[name].double().flatten().cpu() for name in names]
    for level in _levels(torch.cat(shares)):
        left = torch.stack([(share >= level - 1e-9).double().mean() for share in shares])
        total = float((left * sizes).sum() / sizes.sum())
        if not 0 < total <= _FROM:
            continue
        price = _price(quotas, worth, sizes, total)
        left = left.clamp(0.5 / sizes, 1 - 0.5 / sizes)  # of a layer without survivors: half a weight
        target = quotas.link(left) - worth - price
        known = _standard(state, facts)
        # The threshold sets the level that all layers share: only differences between layers are learned.
        yield known - known.mean(dim=0), price.expand(len(names)), target - target.mean()


def _standard(state: Tensors, facts: torch.Tensor) -> torch.Tensor:
    return ((facts - state["mean"].cpu()) / state["spread"].cpu()).clamp(-_REACH, _REACH)


def _erk(facts: torch.Tensor) -> torch.Tensor:
    # Evci et al. 2020: the sum of a layer's dimensions over their product. Kernels count as square, and those of one
    # pixel as none, as in a linear layer: the facts do not distinguish the two.
    fan_in, fan_out, kernel = (facts[_LAYER.index(name)].exp() for name in ("fan_in", "fan_out", "kernel"))
    side = torch.where(kernel > 1, 2 * kernel.sqrt(), 0.0)
    return ((fan_in / kernel + fan_out / kernel + side) * kernel / (fan_in * fan_out)).log()


def _igq(facts: torch.Tensor) -> torch.Tensor:
    # Vysogorets & Kempe 2023: n / (F n + 1) of n weights are kept. The network's size is in the price.
    return -facts[_LAYER.index("share")]


@dataclass(frozen=True)
class _Quotas:
    """Quotas at a price p: a layer keeps the share whose `link` is p plus its `worth`, if such a share exists."""

    worth: Callable[[torch.Tensor], torch.Tensor]
    link: Callable[[torch.Tensor], torch.Tensor]
    inverse: Callable[[torch.Tensor], torch.Tensor]


# The state of a scorer holds the index: append new quotas.
_NAMES = {
    "igq": _Quotas(_igq, lambda share: share.logit(), lambda value: value.sigmoid()),
    "erk": _Quotas(_erk, lambda share: share.log(), lambda value: value.clamp_max(0).exp()),
}
_STARTS = tuple(_NAMES.values())


def _price(quotas: _Quotas, worth: torch.Tensor, sizes: torch.Tensor, total: float) -> torch.Tensor:
    # The price at which a share `total` of all weights is kept.
    low, high = torch.tensor(-60.0).double(), torch.tensor(60.0).double()
    for _ in range(80):
        middle = (low + high) / 2
        kept = float((quotas.inverse(middle + worth) * sizes).sum() / sizes.sum())
        low, high = (middle, high) if kept < total else (low, middle)
    return high


def _levels(shares: torch.Tensor) -> list[float]:
    values = shares.unique()
    values = values[values > 0]
    if len(values) > _LEVELS:
        values = values[torch.linspace(0, len(values) - 1, _LEVELS).round().long()]
    return [float(value) for value in values]


def _facts(features: Features, name: str) -> torch.Tensor:
    # Equal for all weights of a layer: the first row holds them. On the CPU: facts are few.
    columns = [index for index, group in enumerate(features.columns) if group in _FACTS]
    return features.values[name][0, columns].cpu().double()
