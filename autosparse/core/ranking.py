"""Rank correlation and precision of predicted scores on held-out weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Literal

from autosparse.core.features import Features
from autosparse.core.selection import descending
from autosparse.core.weights import Tensors
from autosparse.lazy_torch import torch

Learn = Callable[[Features, Tensors], Tensors]
Predict = Callable[[Tensors, Features], Tensors]
Enough = Callable[["HeldOut", int], bool]
"""A stopping rule: (result of a fold, number of folds left) -> True to skip them."""
Split = Literal["layers", "seeds", "networks"]
Objective = Literal["rank", "rank_within", "precision", "beyond_quotas", "quotas"]


@dataclass(frozen=True)
class HeldOut:
    """Metrics on held-out weights, mean over folds.

    `overall` is Spearman's rank correlation of all held-out weights together, `within` its mean inside one layer: near
    zero the scorer knows layers, not weights. `precision` is the share of the survivors of IRP's last round among as
    many highest scores, `beyond_quotas` its excess over the same counts in every layer, filled at random. `quotas` is
    the share of the survivors that fit into their layers' counts: 1 minus the total variation between the counts.
    Round-by-round labels are measured in each round: most weights survive one round, so `precision` and `quotas` are
    high by chance.
    """

    overall: float
    within: float
    precision: float
    beyond_quotas: float
    quotas: float

    def value(self, objective: Objective) -> float:
        """Return the metric that tuning optimizes."""
        value: float = getattr(self, {"rank": "overall", "rank_within": "within"}.get(objective, objective))
        return value


def cross_validate(
    learn: Learn,
    predict: Predict,
    features: Features,
    labels: Tensors,
    folds: int,
    split: Split = "layers",
    enough: Enough = lambda fold, left: False,
) -> HeldOut:
    """Cross-validate a scorer in at most `folds` folds, each unit held out once.

    `split` is the unit: `layers` (layer i in fold i modulo `folds`), `seeds` of all networks, or `networks` at all
    seeds. Names are `source:layer`, a source `seed` or `network.seed`, at a round of IRP `source@round:layer`. Layers
    of one name are held out together: no scorer is tested on the twin of a layer that it learned from. Raises
    ValueError for a single unit.
    """
    names = list(features.values)
    part_of = {name: _part(name, split) for name in names}
    parts = list(dict.fromkeys(part_of.values()))
    if len(parts) < 2:
        what = {"layers": "a network of one layer", "seeds": "one seed", "networks": "one network"}[split]
        raise ValueError(f"{what} leaves none to learn from when it is held out")
    results: list[HeldOut] = []
    folds = min(folds, len(parts))
    for fold in range(folds):
        held = [name for name in names if part_of[name] in parts[fold::folds]]
        rest = [name for name in names if name not in held]
        state = learn(features.take(rest), {name: labels[name] for name in rest})
        scores = predict(state, features.take(held))
        overall = spearman(torch.cat([scores[n] for n in held]), torch.cat([labels[n] for n in held]))
        within = sum(spearman(scores[name], labels[name]) for name in held) / len(held)
        sources = list(dict.fromkeys(name.rpartition(":")[0] for name in held))
        agreed = [
            agreement(scores, labels, [name for name in held if name.rpartition(":")[0] == source], features.sizes)
            for source in sources
        ]
        results.append(HeldOut(overall, within, *(sum(values) / len(values) for values in zip(*agreed, strict=True))))
        if enough(results[-1], folds - len(results)):
            break
    return HeldOut(*(sum(values) / len(results) for values in zip(*map(astuple, results), strict=True)))


def _part(name: str, split: Split) -> str:
    origin, _, layer = name.rpartition(":")
    network, _, seed = origin.partition("@")[0].rpartition(".")
    return {"layers": layer, "seeds": seed, "networks": network}[split]


def agreement(
    scores: Tensors, labels: Tensors, layers: Sequence[str], sizes: Mapping[str, int]
) -> tuple[float, float, float]:
    """Return the recall of survivors by the highest scores, its excess over layer counts, and the counts' share.

    Survivors have label 1. The first is the recall, the second its excess over the recall by the layers' counts alone,
    the third the share that fits into their layers' counts. In a layer of `sizes` weights that is only sampled, a
    weight counts for all that it represents. All are 0 if none or all survived, or a score is not finite.
    """
    shares = [labels[name].flatten() for name in layers]
    each = [
        torch.full_like(share, sizes.get(n, len(share)) / len(share)) for n, share in zip(layers, shares, strict=True)
    ]
    alive, standing = torch.cat(shares) >= 1, torch.cat(each).double()
    score = torch.cat([scores[name].flatten() for name in layers])
    survivors = float(standing[alive].sum())
    if survivors in (0.0, float(standing.sum())) or not bool(score.isfinite().all()):
        return 0.0, 0.0, 0.0
    order = descending(score)
    before = standing[order].cumsum(0) - standing[order]
    chosen = torch.zeros_like(alive)
    chosen[order] = before < survivors
    hit = float(standing[chosen & alive].sum()) / survivors
    by_numbers = room = 0.0
    lengths = [len(share) for share in shares]
    for kept, living, weight in zip(chosen.split(lengths), alive.split(lengths), standing.split(lengths), strict=True):
        by_numbers += float(weight[0]) * int(kept.sum()) * int(living.sum()) / len(kept)
        room += float(weight[0]) * min(int(kept.sum()), int(living.sum()))
    return hit, hit - by_numbers / survivors, room / survivors


def spearman(predicted: torch.Tensor, actual: torch.Tensor) -> float:
    """Return Spearman's rank correlation of two vectors, ties sharing their mean rank.

    0 if either is constant, -1 if a prediction is not finite: nothing ranks worse.
    """
    from scipy.stats import rankdata

    if not bool(predicted.isfinite().all()):
        return -1.0
    first, second = (torch.as_tensor(rankdata(values.double().cpu().numpy())) for values in (predicted, actual))
    if len(first) < 2 or first.std() == 0 or second.std() == 0:
        return 0.0
    return float(torch.corrcoef(torch.stack([first, second]))[0, 1])
