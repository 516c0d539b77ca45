"""Scores of exactly zero: networks whose signal begins at zero, and ties that position would break.

Some networks begin branches (timm's ResNets, torchvision's `zero_init_residual=True`, ReZero, Fixup) or their last
layer (MLP-Mixers) at zero. Gradients inside are then zero, and so is every score that multiplies by them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from autosparse.core.evidence import Evidence
from autosparse.core.torch_compat.random_state import seed_of
from autosparse.core.weights import Tensors, describe_layers, prunable_weights, together
from autosparse.lazy_torch import torch

_NO_SCALE = ("bias", "beta", "shift", "offset", "token", "pos")
_MANY = 0.01  # share of all scores above which ties are no accident


class NoSignal(ValueError):
    """A lack of signal: every score is zero; `hint` suggests a remedy."""

    hint = (
        "the loss feels no weight: initialize the last layer otherwise, train before scoring (the schedule's `steps`), "
        "or choose a method without gradients, such as `erk`"
    )


def with_signal(score: Callable[[Evidence], Tensors]) -> Callable[[Evidence], Tensors]:
    """Return a criterion that scores networks whose branches begin at zero as if they carried signal.

    If all scores of a layer are exactly zero, zero-initialized scales become one and zero-initialized weights are
    drawn by their fan-in before scoring. Masks apply to the original network. `note` records it.
    """
    silent_before = False

    def scored(evidence: Evidence) -> Tensors:
        nonlocal silent_before
        if silent_before:
            return score(carrying_signal(evidence))
        scores = score(evidence)
        if not silent_layers(scores, evidence):
            return scores
        carrying = carrying_signal(evidence)
        silent_before = carrying is not evidence
        return score(carrying) if silent_before else scores

    return scored


def silent_layers(scores: Mapping[str, torch.Tensor], evidence: Evidence) -> list[str]:
    """Return the layers with present weights whose scores are all exactly zero."""
    return [
        name
        for name, values in scores.items()
        if not bool(values.any()) and values.numel() and bool(evidence.masks[name].any())
    ]


def carrying_signal(evidence: Evidence) -> Evidence:
    """Return the network with zero-initialized scales and weights replaced, or the same evidence without any."""
    prunable = {id(weight): name for name, weight in prunable_weights(evidence.model).items()}
    layers = {layer.name: layer for layer in evidence.layers or describe_layers(evidence.model)}
    replaced: Tensors = {}
    for name, parameter in evidence.model.named_parameters():
        part = evidence.trained.get(name, parameter).detach()
        if not part.is_floating_point() or not part.numel() or bool(part.any()):
            continue
        if (layer := prunable.get(id(parameter))) is not None:
            random = torch.Generator("cpu").manual_seed(seed_of("zero weight", layer))
            drawn = torch.randn(part.shape, generator=random, device="cpu") / math.sqrt(layers[layer].fan_in)
            replaced[layer] = drawn.to(part)
        elif _is_scale(name, part):
            replaced[name] = torch.ones_like(part)
    if not replaced:
        return evidence
    names = [*replaced]
    which = f"{names[0]} and {len(names) - 1} more begin" if names[1:] else f"{names[0]} begins"
    evidence.note(
        f"{which} at zero, so that layers behind have no gradient: the network is scored with such "
        "scales at one and such weights drawn at random"
    )
    return replace(evidence, trained={**evidence.trained, **replaced}).masked(evidence.masks)


def is_by_position(masks: Mapping[str, torch.Tensor], scores: Mapping[str, torch.Tensor]) -> bool:
    """Return whether masks keep some and drop others of tied scores: zeros, or over a hundredth of all scores."""
    if not any(bool(mask.any()) for mask in masks.values()):
        return False
    lowest = lowest_kept(masks, scores)
    for equal in {0.0, lowest} if lowest <= 0 else {lowest}:
        every = sum(int((values == equal).count_nonzero()) for values in scores.values())
        if equal != 0 and every <= _MANY * sum(mask.numel() for mask in masks.values()):
            continue
        kept = sum(int(((scores[name] == equal) & mask).count_nonzero()) for name, mask in masks.items())
        if 0 < kept < every:
            return True
    return False


def lowest_kept(masks: Mapping[str, torch.Tensor], scores: Mapping[str, torch.Tensor]) -> float:
    """Return the lowest score of a weight that masks keep."""
    return min(float(scores[name].masked_fill(~mask, math.inf).min()) for name, mask in masks.items() if mask.numel())


def without_ties(scores: Mapping[str, torch.Tensor], equal: Collection[float], generator: torch.Generator) -> Tensors:
    """Return scores with ties at the `equal` values broken at random.

    They stay between the scores next to them: the ranks of all others are unchanged.
    """

    def untied(values: torch.Tensor) -> torch.Tensor:
        for tied in sorted(equal):
            below = values[(values < tied) & (values > -math.inf)]
            gap = tied - float(below.max()) if below.numel() else max(1.0, abs(tied))
            drawn = torch.rand(values.shape, generator=generator, dtype=torch.float64, device="cpu").to(values.device)
            values = torch.where(values == tied, (tied - 0.5 * gap * drawn).to(values.dtype), values)
        return values

    return together(scores, untied)


def _is_scale(name: str, part: torch.Tensor) -> bool:
    # A scale of a normalization, of a branch (ReZero) or of a layer: a scalar, or one for each channel.
    last = name.rpartition(".")[2].lower()
    return sum(size > 1 for size in part.shape) <= 1 and not any(word in last for word in _NO_SCALE)
