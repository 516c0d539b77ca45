"""Mask updates: when and how the masks of a network change while it trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autosparse.core.weights import Tensors
from autosparse.lazy_torch import torch


@dataclass(frozen=True)
class Moment:
    """A network at a step of its training that may change its masks.

    Attributes:
        step: Number of the step, from 0.
        steps: Steps of the whole training, all cycles together.
        weights: Prunable weights, name -> tensor; zero where the mask is.
        gradients: Gradients of the step's loss in all weights, masked ones included.
        masks: Present masks, name -> bool tensor.
        state: Function that returns every parameter and buffer by name.
    """

    step: int
    steps: int
    weights: Tensors
    gradients: Tensors
    masks: Tensors
    state: Callable[[], Tensors]


@dataclass(frozen=True)
class MaskUpdates:
    """The rule by which masks change during one training.

    Attributes:
        due: Function of a step and the number of steps that returns whether the masks change at that step.
        change: Function that returns the next masks, name -> bool tensor.
        replaces_step: True if the weights stay unchanged at a step that changes masks.
        cycles: Passes through the recipe, each with the whole learning-rate schedule.
        generator: Source of the rule's random draws, whose state a checkpoint holds; None for a rule that draws none.
    """

    due: Callable[[int, int], bool]
    change: Callable[[Moment], Tensors]
    replaces_step: bool = False
    cycles: int = 1
    generator: torch.Generator | None = None


@dataclass(frozen=True)
class Change:
    """One change of masks: its step, from 0, the weights kept from it on, and those of them that were masked before."""

    step: int
    kept: int
    grown: int
