"""The fields of a recipe that act under masks alone, and scaled initial weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from autosparse.core.training.recipe import Recipe
from autosparse.core.weights import prunable_weights
from autosparse.lazy_torch import torch

UNDER_MASKS = ("rescale", "reparameterization")
"""The fields of a recipe that act under masks alone: not on dense networks, and not on rounds of IRP, whose labels come
from plain training. At their defaults they are not part of a key."""


def at_defaults() -> dict[str, Any]:
    """Return the defaults of the fields that act under masks alone."""
    return {field.name: field.default for field in fields(Recipe) if field.name in UNDER_MASKS}


def without_masks(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a recipe that act on dense networks too."""
    return {name: value for name, value in recipe.items() if name not in UNDER_MASKS}


def rescale_weights(model: torch.nn.Module, masks: Mapping[str, torch.Tensor], exponent: float) -> None:
    """Multiply the kept weights of every layer of `model` by d^-`exponent`, d being the share that its mask keeps.

    Changes the model in place; layers without a mask, and those that keep all or none of their weights, stay as they
    are. An output of a layer sums d times as many terms as before, so 0.5 restores the variance of pre-activations at
    initialization: the masked form of He's rule, whose fan-in counts kept weights (Evci et al. 2022, "Gradient flow in
    sparse neural networks and how lottery tickets win", arXiv 2010.03533).

    One factor for a whole layer, where the paper has one for each output: weights keep their ratios, by which the
    criterion chose them, and an output with one kept weight of a thousand is not scaled by thirty.
    """
    if not exponent:
        return
    with torch.no_grad():
        for name, weight in prunable_weights(model).items():
            kept = int(masks[name].count_nonzero()) if name in masks else 0
            if 0 < kept < weight.numel():
                mask = masks[name].to(weight.device).bool()
                weight.copy_(torch.where(mask, weight * (kept / weight.numel()) ** -exponent, weight))
