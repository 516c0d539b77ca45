"""Scores drawn at random: the control that every criterion has to beat."""

from __future__ import annotations

from autosparse.core.criteria import criteria
from autosparse.core.evidence import Evidence
from autosparse.core.weights import Tensors
from autosparse.lazy import torch


@criteria.register(shuffled=True, source="the baseline of Su et al. 2020 and Liu et al. 2022")
def random(evidence: Evidence) -> Tensors:
    """Uniform random scores."""
    # Drawn on the CPU, so that a seed means the same masks on every device.
    return {
        name: torch.rand(weight.shape, generator=evidence.generator, device="cpu").to(weight.device)
        for name, weight in evidence.weights.items()
    }
