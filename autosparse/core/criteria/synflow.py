"""SynFlow: synaptic flow, which needs no data."""

from __future__ import annotations

from autosparse.core.criteria import criteria
from autosparse.core.evidence import Evidence, gradient_of
from autosparse.core.weights import Tensors


@criteria.register(flows=1)
def synflow(evidence: Evidence) -> Tensors:
    """|w| dR/d|w| of the linear positive network, in float64 (Tanaka et al. 2020, eq. 2)."""
    leaves = {name: weight.detach().abs().double().requires_grad_() for name, weight in evidence.weights.items()}
    gradient = gradient_of(evidence.flow(leaves), leaves)
    return {name: leaf.detach() * gradient[name] for name, leaf in leaves.items()}
