"""The recipe that every method's training shares: its fields, its length and its learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

from autosparse.core.images import batch_sizes

MOST_EPOCHS = 100_000
"""The limit of any training."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The training recipe. Every field is an option of a spec's `training`."""

    epochs: Annotated[
        int | float, Gt(0), Le(MOST_EPOCHS), "passes over the training set; 2.5 stops halfway in the third"
    ] = 160
    batch: Annotated[int, Ge(1), "batch size, in images"] = 128
    optimizer: Annotated[Literal["sgd", "adamw"], "optimizer"] = "sgd"
    lr: Annotated[float, Gt(0), "peak learning rate"] = 0.1
    momentum: Annotated[float, Ge(0), Lt(1), "momentum of SGD"] = 0.9
    nesterov: Annotated[bool, "Nesterov momentum of SGD"] = True
    weight_decay: Annotated[float, Ge(0), "weight decay on every parameter"] = 5e-4
    schedule: Annotated[Literal["cosine", "one_cycle", "steps", "constant"], "learning-rate schedule"] = "cosine"
    warmup: Annotated[float, Ge(0), Lt(1), "fraction of the steps with linear learning-rate warm-up"] = 0.05
    drops: Annotated[
        tuple[Annotated[float, Gt(0), Lt(1)], ...], "milestones of schedule `steps`, as fractions of the steps"
    ] = (0.375, 0.75)
    drop: Annotated[float, Gt(0), Lt(1), "learning-rate factor at each milestone of schedule `steps`"] = 0.2
    label_smoothing: Annotated[float, Ge(0), Lt(1), "label smoothing: fraction spread over all classes"] = 0.0
    crop: Annotated[int, Ge(0), "random crop: largest shift in pixels"] = 4
    flip: Annotated[bool, "random horizontal flip"] = True
    cutout: Annotated[int, Ge(0), "Cutout: side in pixels of a square filled with the mean colour"] = 0
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"], "precision of the forward pass; auto: bfloat16 if the processor has it"
    ] = "auto"
    kernels: Annotated[
        Literal["dense", "sparse", "compiled"],
        "kernels of masked layers. sparse: float32 sparse kernels on a CPU, if masks keep at most 1/16 of the "
        "multiply-adds, else dense (extra `sparse`). compiled: torch.compile, which takes seconds per training; the "
        "plan shows whether it pays off",
    ] = "dense"
    rescale: Annotated[
        float,
        Ge(0),
        Le(1),
        "exponent e: initial weights that a mask keeps are multiplied by d^-e, d being the share of its layer that it "
        "keeps; 0.5 keeps the variance of pre-activations",
    ] = 0.0
    reparameterization: Annotated[
        Literal["none", "sign_in"],
        "sign_in: weights under masks train as products of two factors, rebalanced every epoch, and change sign more "
        "easily (Gadhikar et al. 2025)",
    ] = "none"


STEP_FIELDS = (
    "batch", "optimizer", "lr", "momentum", "nesterov", "weight_decay", "crop", "flip", "cutout", "precision",
)  # fmt: skip
"""The fields of a recipe that define a step when masks are learned: not the number of steps, nor fields that depend on
it, and no label smoothing, since the loss is that of criteria."""


def of_a_step(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a recipe that define a step, as far as they are given."""
    return {name: recipe[name] for name in STEP_FIELDS if name in recipe}


def training_steps_of(recipe: Recipe, images: int) -> int:
    """Return the number of steps of a training: a fraction of an epoch takes that share of its batches."""
    return max(1, round(recipe.epochs * len(batch_sizes(images, recipe.batch))))


def learning_rate(recipe: Recipe, progress: float) -> float:
    """Return the learning rate at a share of the steps in [0, 1), as a multiple of the peak."""
    warmup = 0.3 if recipe.schedule == "one_cycle" else recipe.warmup
    if progress < warmup:
        return 0.04 + 0.96 * progress / warmup
    rest = (progress - warmup) / (1 - warmup)
    match recipe.schedule:
        case "cosine" | "one_cycle":
            return (1 + math.cos(math.pi * rest)) / 2
        case "steps":
            return recipe.drop ** sum(progress >= share for share in recipe.drops)
        case "constant":
            return 1.0
