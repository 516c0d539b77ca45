"""A small multilayer perceptron from a weight's features to its survival."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from annotated_types import Ge

from autosparse.core.features import Features
from autosparse.core.scorers import losses, scorers
from autosparse.core.scorers.perceptron import Depth, FeaturesUsed, LearningRate, Steps, Width, begin, learn, predict
from autosparse.core.weights import Tensors
from autosparse.lazy import torch
from autosparse.registry import AddedLater, OneOf

_LOSSES: Mapping[str, losses.Make] = {
    "squared": losses.squared,
    "ordinal": losses.ordinal,
    "pairwise": losses.pairwise,
}


@scorers.register(predict=predict, groups=lambda options: options["features_used"])
def mlp(
    features: Features,
    labels: Tensors,
    generator: torch.Generator,
    observe: Callable[[int, int], None] = lambda done, total: None,
    *,
    features_used: FeaturesUsed = ("magnitude", "gradient", "sensitivity", "channels", "layer"),
    width: Width = 64,
    depth: Depth = 2,
    lr: LearningRate = 5e-3,
    steps: Steps = 300,
    batch: Annotated[int, Ge(1), "weights in an update, drawn from all layers alike"] = 2048,
    loss: Annotated[
        Literal["squared", "ordinal", "pairwise"],
        OneOf(("squared", "ordinal", "pairwise"), when_named=True),
        AddedLater("squared"),
        "of the share of rounds survived: its squared error, the cross-entropy of every round, with learned cut points "
        "(Cao et al. 2020), or the logistic loss of pairs inside and across layers (Burges et al. 2005)",
    ] = "squared",
) -> Tensors:
    """A multilayer perceptron, by default squared error on the share of rounds survived (AutoSparse, arXiv 2408.14757).

    Layers are drawn equally often, whatever their size: a scorer is carried to networks whose layers it
    has not seen, so a layer's facts matter more than its number of weights.
    """
    state, tables = begin(features, features_used, width, depth, generator)
    targets = [labels[name].float() for name in features.values]
    judged = _LOSSES[loss](targets, generator)
    return learn(state, tables, targets, judged, generator, observe, lr=lr, steps=steps, batch=batch)
