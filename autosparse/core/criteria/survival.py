"""Orders of weights: survival in IRP, predicted or as its rounds left it, and the order of a search or a ticket."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from autosparse.core.criteria._base import criteria
from autosparse.core.evidence import Evidence
from autosparse.core.weights import Tensors
from autosparse.lazy_torch import torch


@criteria.register(needs_scorer=True, gradients=1, features=1, source="AutoSparse, arXiv 2408.14757")
def learned(
    evidence: Evidence, *, images: Annotated[int, Ge(1), "number of training images for the gradient"] = 512
) -> Tensors:
    """Predict survival with a trained scorer, from the network in the state that the scorer expects.

    Args:
        evidence: Network under its present masks, with the batches that `images` draws from.
        images: Number of training images that the gradient among the features is averaged over.

    Returns:
        Scores, name -> float tensor of the weight's shape and device; higher is kept.

    Examples:
        >>> import torch
        >>> from autosparse import score
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> scores = score(model, [(torch.rand(8, 4), torch.arange(8) % 2)], criterion="learned")
        >>> {name: tuple(values.shape) for name, values in scores.items()}
        {'0.weight': (8, 4), '2.weight': (2, 8)}

    References:
        AutoSparse, arXiv 2408.14757, section 3.
    """
    scorer = evidence.scorer
    assert scorer is not None, "the plan gives a method that needs a scorer its scorer"
    return scorer.predict(evidence, images)


@criteria.register(needs_rounds=True, source="AutoSparse, arXiv 2408.14757; Frankle & Carbin 2019")
def irp(evidence: Evidence) -> Tensors:
    """Score a weight by the IRP rounds that it survives on this network, and by its rank in the last one.

    Args:
        evidence: Network under its present masks; its `survival` holds the order of the weights that the rounds left.

    Returns:
        Scores, name -> float64 tensor of the weight's shape and device; higher is kept.

    Examples:
        Its rounds are whole trainings, which only the run of a spec makes; `autosparse.score` refuses it.

        >>> criteria["irp"].facts["needs_rounds"]
        True

    References:
        Iterative rewind pruning: AutoSparse, arXiv 2408.14757, section 3.
        Lottery tickets: Frankle & Carbin 2019, arXiv 1803.03635.
    """
    assert evidence.survival is not None, "the plan gives a method that needs rounds its rounds"
    return {name: order.to(evidence.weights[name].device) for name, order in evidence.survival.items()}


@criteria.register(needs_order=True, source="Frankle & Carbin 2019")
def order(evidence: Evidence) -> Tensors:
    """Score by the order of weights that one search for all budgets or a ticket left.

    Args:
        evidence: Network under its present masks; its `survival` holds the order, and its generator draws the scores of
            layers that a ticket lacks, such as a head for other classes.

    Returns:
        Scores, name -> float64 tensor of the weight's shape and device; higher is kept.

    Examples:
        Searches are trainings, which only the run of a spec makes; `autosparse.score` refuses it.

        >>> criteria["order"].facts["needs_order"]
        True

    References:
        Lottery tickets: Frankle & Carbin 2019, arXiv 1803.03635.
    """
    assert evidence.survival is not None, "the plan gives a method that needs an order its order"
    scores: Tensors = {}
    highest = max((float(part.max()) for part in evidence.survival.values()), default=1.0)
    for name, weight in evidence.weights.items():
        known = evidence.survival.get(name)
        if known is None:
            known = highest * torch.rand(weight.shape, generator=evidence.generator, dtype=torch.float64, device="cpu")
        scores[name] = known.double().to(weight.device)
    return scores
