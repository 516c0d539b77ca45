"""Scores of the weights alone: their flow, their size, or none."""

from __future__ import annotations

from autosparse.core.criteria._base import criteria
from autosparse.core.evidence import Evidence
from autosparse.core.weights import Tensors
from autosparse.lazy_torch import torch


@criteria.register(flows=1, source="Tanaka et al. 2020, eq. 2")
def synflow(evidence: Evidence) -> Tensors:
    """Score by |w| dR/d|w| of the linear positive network, in float64.

    Args:
        evidence: Network under its present masks.

    Returns:
        Scores, name -> float64 tensor of the weight's shape and device; higher is kept.

    Examples:
        >>> from autosparse import score
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> _ = model.load_state_dict({"weight": torch.tensor([[1.0, -2.0]])})
        >>> score(model, [(torch.zeros(1, 2), torch.zeros(1))], criterion="synflow")
        {'weight': tensor([[1., 2.]], dtype=torch.float64)}

    References:
        Tanaka et al. 2020, arXiv 2006.05467, eq. 2: R is the sum of the outputs for inputs of ones, with absolute
        weights and without nonlinearities. The preset `synflow` repeats it in 100 rounds, as in the paper.
    """
    leaves = {name: weight.detach().abs().double().requires_grad_() for name, weight in evidence.weights.items()}
    _, gradient = evidence.flow_gradient(leaves)
    return {name: weight.abs().double() * gradient[name] for name, weight in evidence.initial.items()}


@criteria.register(source="Han et al. 2015, applied before training")
def magnitude(evidence: Evidence) -> Tensors:
    """Score by |w| at initialization.

    Args:
        evidence: Network under its present masks.

    Returns:
        Scores, name -> tensor of the weight's shape, dtype and device; higher is kept.

    Examples:
        >>> from autosparse import score
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> _ = model.load_state_dict({"weight": torch.tensor([[1.0, -2.0]])})
        >>> score(model, criterion="magnitude")
        {'weight': tensor([[1., 2.]])}

    References:
        Han et al. 2015, arXiv 1506.02626, who prune trained networks by it; before training: Frankle et al. 2021,
        arXiv 2009.08576.
    """
    return {name: weight.abs() for name, weight in evidence.initial.items()}


@criteria.register(shuffled=True, source="the baseline of Su et al. 2020 and Liu et al. 2022")
def random(evidence: Evidence) -> Tensors:
    """Draw uniform random scores.

    Args:
        evidence: Network under its present masks; its generator draws the scores.

    Returns:
        Scores in [0, 1), name -> float32 tensor of the weight's shape and device; higher is kept.

    Examples:
        >>> from autosparse import score
        >>> model = torch.nn.Linear(2, 1)
        >>> first, second = (score(model, criterion="random", seed=7)["weight"] for _ in range(2))
        >>> bool(torch.equal(first, second))
        True

    References:
        Su et al. 2020, arXiv 2009.11094; Liu et al. 2022, arXiv 2202.02643.
    """
    # Drawn on the CPU, so that a seed means the same masks on every device.
    return {
        name: torch.rand(weight.shape, generator=evidence.generator, device="cpu").to(weight.device)
        for name, weight in evidence.weights.items()
    }
