"""Masks: counted, checked, combined."""

from __future__ import annotations

from collections.abc import Mapping

from autosparse.core.allocation import Counts
from autosparse.core.evidence import Evidence
from autosparse.core.paths import effective_weights
from autosparse.lazy import torch


def kept(masks: Mapping[str, torch.Tensor]) -> Counts:
    """Ones per layer."""
    return {name: int(mask.sum()) for name, mask in masks.items()}


def effective(evidence: Evidence) -> Counts:
    """Weights per layer that lie on a path from input to output."""
    return kept(effective_weights(evidence))
