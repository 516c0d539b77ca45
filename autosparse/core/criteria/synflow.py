"""SynFlow: synaptic flow, which needs no data."""

from __future__ import annotations

from autosparse.core.criteria import criteria
from autosparse.core.evidence import Evidence
from autosparse.core.weights import Tensors


@criteria.register(flows=1, source="Tanaka et al. 2020, eq. 2")
def synflow(evidence: Evidence) -> Tensors:
    """|w| dR/d|w| of the linear positive network, in float64."""
    leaves = {name: weight.detach().abs().double().requires_grad_() for name, weight in evidence.weights.items()}
    _, gradient = evidence.flow_gradient(leaves)
    return {name: weight.abs().double() * gradient[name] for name, weight in evidence.initial.items()}
