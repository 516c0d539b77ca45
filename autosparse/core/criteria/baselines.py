"""Baselines that need no gradient: magnitude at initialization, and random scores."""

from __future__ import annotations

from autosparse.core.criteria._base import criteria
from autosparse.core.evidence import Evidence
from autosparse.core.weights import Tensors
from autosparse.lazy_torch import torch


@criteria.register(source="Han et al. 2015, applied before training")
def magnitude(evidence: Evidence) -> Tensors:
    """|w| at initialization."""
    return {name: weight.abs() for name, weight in evidence.initial.items()}


@criteria.register(shuffled=True, source="the baseline of Su et al. 2020 and Liu et al. 2022")
def random(evidence: Evidence) -> Tensors:
    """Uniform random scores."""
    # Drawn on the CPU, so that a seed means the same masks on every device.
    return {
        name: torch.rand(weight.shape, generator=evidence.generator, device="cpu").to(weight.device)
        for name, weight in evidence.weights.items()
    }
