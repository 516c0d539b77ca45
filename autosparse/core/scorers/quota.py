"""How many weights a layer keeps, learned from what layers are: a departure from Erdős-Rényi kernel quotas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from autosparse.core.features import Features
from autosparse.core.scorers import scorers
from autosparse.core.weights import Tensors
from autosparse.lazy import torch
from autosparse.registry import Range

Order = Literal["magnitude", "gradient", "sensitivity", "flow"]

_LAYER = ("fan_in", "fan_out", "kernel", "stride", "share", "place", "first", "last")  # columns of group `layer`
_FACTS = ("layer", "joins")
_LEFT = "remaining"
_LEVELS = 32  # of survival at which quotas are looked at
_FROM = 0.5  # share that a network has left from where on its layers' quotas tell something
_REACH = 2.0  # standard deviations beyond which a fact of a layer that was never met is no longer followed
_STEEPEST = 0.25  # least exponent: a layer always loses weights when the network does


def predict(state: Tensors, features: Features) -> Tensors:
    """Scores of every weight, layer -> `[weights]`: one threshold over all of them gives each layer its quota.

    A weight of which a share u of its layer is ranked higher scores (a - log u) / b, with a and b of its layer: above
    a threshold -log p lies the share exp(a) p^b of the layer. With a the logarithm of a layer's Erdős-Rényi kernel
    share and b = 1 that is ERK, at every sparsity.
    """
    found: Tensors = {}
    for name, values in features.values.items():
        level, exponent = _curve(state, _facts(features, name))
        left = values[0, features.columns.index(_LEFT)].double().exp()
        size = features.sizes.get(name, len(values)) * left
        rank = values[:, int(state["column"])].double()
        above = ((1 - rank) * (1 - 1 / size) + 0.5 / size) * left
        found[name] = ((level - above.log()) / exponent).float()
    return found


@scorers.register(
    predict=predict,
    groups=lambda options: (*_FACTS, _LEFT, options["order"]),
    source="its starting point: Evci et al. 2020; learned from the survivors of IRP (AutoSparse, arXiv 2408.14757)",
)
def quota(
    features: Features,
    labels: Tensors,
    generator: torch.Generator,
    observe: Callable[[int, int], None] = lambda done, total: None,
    *,
    strength: Annotated[
        float, Ge(0), Le(1), Range(0, 1), "how far quotas depart from Erdős-Rényi kernel ones: 0 is ERK, 1 as learned"
    ] = 1.0,
    ridge: Annotated[
        float, Gt(0), Range(0.1, 30, log=True), "pull towards ERK: layers' worth of evidence against a departure"
    ] = 3.0,
    order: Annotated[Order, "what ranks weights inside a layer: |w|, |g|, |w g|, or the paths through a weight"] = (
        "magnitude"
    ),
) -> Tensors:
    """Layer quotas, learned by ridge regression from what layers are; weights inside one are ranked by `order`.

    Of the network that IRP has pruned to a share d, layer l holds a share d_l; ERK would give it min(1, p raw_l) at
    the price p. What is learned is log(d_l / raw_l) = f + (1 + h) log p, up to a number that all layers share, with f
    and h linear in the layer's facts and pulled to 0: the quotas of a network that was never met are ERK's where
    nothing is known of such layers. In closed form; two numbers for each fact.
    """
    sources = list(dict.fromkeys(name.rpartition(":")[0] for name in features.values))
    rows: list[torch.Tensor] = []
    prices: list[torch.Tensor] = []
    targets: list[torch.Tensor] = []
    every = torch.stack([_facts(features, name) for name in features.values])
    mean, spread = every.mean(dim=0), every.std(dim=0, correction=0)
    state: Tensors = {
        "mean": mean,
        "spread": torch.where(spread > 1e-6, spread, 1e30),  # what never differs is not followed
        "column": torch.tensor(features.columns.index(order)),  # of a group, the first column is the rank
    }
    for source in sources:
        names = [name for name in features.values if name.rpartition(":")[0] == source]
        sizes = torch.tensor([float(features.sizes.get(name, labels[name].numel())) for name in names]).double()
        facts = torch.stack([_facts(features, name) for name in names])
        raw = torch.stack([_erk(row) for row in facts])
        shares = [labels[name].double().flatten().cpu() for name in names]
        for level in _levels(torch.cat(shares)):
            left = torch.stack([(share >= level - 1e-9).double().mean() for share in shares])
            total = float((left * sizes).sum() / sizes.sum())
            if not 0 < total <= _FROM:
                continue
            price = _price(raw, sizes, total)
            left = torch.maximum(left, 0.5 / sizes)  # a layer without survivors: half a weight
            target = left.log() - raw.log() - price
            known = _standard(state, facts)
            # What all layers share is the threshold's to say: only differences between layers are learned.
            rows.append(known - known.mean(dim=0))
            targets.append(target - target.mean())
            prices.append(price.expand(len(names)))
    size = every.shape[1]
    if rows:
        seen, price, target = torch.cat(rows), torch.cat(prices), torch.cat(targets)
        table = torch.cat([seen, seen * price[:, None]], dim=1)
        weight = 1 / max(1, len(rows) // max(1, len(sources)))  # the rounds of a layer are one piece of evidence
        pull = ridge * torch.eye(2 * size, dtype=torch.float64)
        found = torch.linalg.solve(weight * table.T @ table + pull, weight * table.T @ target)
    else:
        found = torch.zeros(2 * size, dtype=torch.float64)
    observe(1, 1)
    return state | {"level": strength * found[:size], "exponent": strength * found[size:]}


def _curve(state: Tensors, facts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    known = _standard(state, facts)
    exponent = (1 + known @ state["exponent"].to(known.device)).clamp_min(_STEEPEST)
    return _erk(facts).log() + known @ state["level"].to(known.device), exponent


def _standard(state: Tensors, facts: torch.Tensor) -> torch.Tensor:
    mean, spread = state["mean"].to(facts.device), state["spread"].to(facts.device)
    return ((facts - mean) / spread).clamp(-_REACH, _REACH)


def _erk(facts: torch.Tensor) -> torch.Tensor:
    # Evci et al. 2020: the sum of a layer's dimensions over their product. Kernels are taken for square, and those of
    # one pixel for none, as in a linear layer: the facts do not tell the two apart.
    fan_in, fan_out, kernel = (facts[_LAYER.index(name)].exp() for name in ("fan_in", "fan_out", "kernel"))
    side = torch.where(kernel > 1, 2 * kernel.sqrt(), 0.0)
    return (fan_in / kernel + fan_out / kernel + side) * kernel / (fan_in * fan_out)


def _price(raw: torch.Tensor, sizes: torch.Tensor, total: float) -> torch.Tensor:
    # The logarithm of p at which layers that keep min(1, p raw) keep `total` of all weights.
    low, high = torch.tensor(-60.0).double(), torch.tensor(60.0).double()
    for _ in range(80):
        middle = (low + high) / 2
        kept = float(((middle.exp() * raw).clamp_max(1) * sizes).sum() / sizes.sum())
        low, high = (middle, high) if kept < total else (low, middle)
    return high


def _levels(shares: torch.Tensor) -> list[float]:
    values = shares.unique()
    values = values[values > 0]
    if len(values) > _LEVELS:
        values = values[torch.linspace(0, len(values) - 1, _LEVELS).round().long()]
    return [float(value) for value in values]


def _facts(features: Features, name: str) -> torch.Tensor:
    # The same for all weights of a layer, so that the first row tells them.
    columns = [index for index, group in enumerate(features.columns) if group in _FACTS]
    return features.values[name][0, columns].double()
