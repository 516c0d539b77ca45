"""Masks: counted, checked, combined."""

from __future__ import annotations

from collections.abc import Mapping

from autosparse.core.allocation import Counts
from autosparse.core.evidence import Evidence, gradient_of
from autosparse.lazy import torch


def kept(masks: Mapping[str, torch.Tensor]) -> Counts:
    """Ones per layer."""
    return {name: int(mask.sum()) for name, mask in masks.items()}


def effective(evidence: Evidence) -> Counts:
    """Weights per layer that lie on a path from input to output (Vysogorets & Kempe 2023).

    A weight counts when the linear positive network's output feels it: all present weights are set to
    their layer's 1 / fan-in, so that path sums neither vanish nor overflow.
    """
    leaves = {
        layer.name: (evidence.masks[layer.name].double() / layer.fan_in).requires_grad_() for layer in evidence.layers
    }
    gradient = gradient_of(evidence.flow(leaves, paths_only=True), leaves)
    return {name: int(((part > 0) & evidence.masks[name].bool()).sum()) for name, part in gradient.items()}
