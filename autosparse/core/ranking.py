"""How well predicted scores order weights, measured on layers the scorer did not learn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autosparse.core.features import Features
from autosparse.core.weights import Tensors
from autosparse.lazy import torch

Learn = Callable[[Features, Tensors], Tensors]
Predict = Callable[[Tensors, Features], Tensors]


@dataclass(frozen=True)
class HeldOut:
    """Spearman's rank correlation on held-out layers, mean over folds.

    `overall` ranks the weights of all held-out layers together; `within` is the mean inside one layer:
    near zero it says that the scorer knows layers, not weights.
    """

    overall: float
    within: float


def cross_validate(learn: Learn, predict: Predict, features: Features, labels: Tensors, folds: int) -> HeldOut:
    """Learn from some layers, predict the others: layer i is held out in fold i modulo `folds`.

    Layers of several sources are named `source:layer` and held out together, so that no scorer is judged on
    a layer whose twin it learned from. Raises ValueError when there is but one layer to hold out.
    """
    names = list(features.values)
    layers = list(dict.fromkeys(name.rpartition(":")[2] for name in names))
    if len(layers) < 2:
        raise ValueError("a network of one layer leaves none to learn from when it is held out")
    overall, within = [], []
    for fold in range(min(folds, len(layers))):
        held = [name for name in names if name.rpartition(":")[2] in layers[fold::folds]]
        rest = [name for name in names if name not in held]
        state = learn(features.take(rest), {name: labels[name] for name in rest})
        scores = predict(state, features.take(held))
        overall.append(spearman(torch.cat([scores[n] for n in held]), torch.cat([labels[n] for n in held])))
        within.append(sum(spearman(scores[name], labels[name]) for name in held) / len(held))
    return HeldOut(sum(overall) / len(overall), sum(within) / len(within))


def spearman(predicted: torch.Tensor, actual: torch.Tensor) -> float:
    """Spearman's rank correlation of two vectors, equal values sharing their mean rank.

    0 if either is constant, -1 if a prediction is not a number: nothing ranks worse.
    """
    from scipy.stats import rankdata

    if not bool(predicted.isfinite().all()):
        return -1.0
    first, second = (torch.as_tensor(rankdata(values.double().cpu().numpy())) for values in (predicted, actual))
    if len(first) < 2 or first.std() == 0 or second.std() == 0:
        return 0.0
    return float(torch.corrcoef(torch.stack([first, second]))[0, 1])
