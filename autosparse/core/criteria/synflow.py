"""SynFlow: synaptic flow, which needs no data."""

from __future__ import annotations

from autosparse.core.criteria import criteria
from autosparse.core.evidence import Evidence
from autosparse.core.weights import Tensors
from autosparse.lazy import torch


@criteria.register
def synflow(evidence: Evidence) -> Tensors:
    """|w| dR/d|w| of the linear positive network, in float64 (Tanaka et al. 2020, eq. 2)."""
    leaves = {name: weight.detach().abs().double().requires_grad_() for name, weight in evidence.weights.items()}
    gradient = torch.autograd.grad(evidence.flow(leaves), list(leaves.values()))
    return {name: leaf.detach() * part for (name, leaf), part in zip(leaves.items(), gradient, strict=True)}
