"""A survival model in discrete time: which of the weights that a round of pruning finds fall in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from annotated_types import Ge

from autosparse.core.features import Features
from autosparse.core.scorers import scorers
from autosparse.core.scorers.losses import cross_entropy
from autosparse.core.scorers.perceptron import Depth, FeaturesUsed, LearningRate, Steps, Width, begin, learn, predict
from autosparse.core.weights import Tensors
from autosparse.lazy import torch


@scorers.register(
    predict=predict,
    groups=lambda options: options["features_used"],
    progressive=True,
    source="Cox 1972; Gensheimer & Narasimhan 2019",
)
def hazard(
    features: Features,
    labels: Tensors,
    generator: torch.Generator,
    observe: Callable[[int, int], None] = lambda done, total: None,
    *,
    features_used: FeaturesUsed = ("magnitude", "gradient", "sensitivity", "channels", "layer", "remaining"),
    width: Width = 64,
    depth: Depth = 2,
    lr: LearningRate = 5e-3,
    steps: Steps = 300,
    batch: Annotated[int, Ge(1), "weights in an update, drawn from all layers of all rounds alike"] = 2048,
) -> Tensors:
    """The log-odds of surviving a round, given the network as the round finds it: for schedules of several rounds.

    A discrete-time hazard: cross-entropy over the weights that are still there, in every round that is described.
    The network of a round is the initial one under the masks that the round begins with, its gradient taken there.
    """
    state, tables = begin(features, features_used, width, depth, generator)
    targets = [labels[name].float() for name in features.values]
    judged = cross_entropy(targets, generator)
    return learn(state, tables, targets, judged, generator, observe, lr=lr, steps=steps, batch=batch)
