"""Curvature of the loss: its diagonal, estimated by squared gradients or by random probes of the Hessian."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from annotated_types import Ge, Gt

from autosparse.core.criteria._base import criteria
from autosparse.core.evidence import Evidence
from autosparse.core.inputs import in_batches
from autosparse.core.weights import Tensors
from autosparse.lazy_torch import torch

Saliency: TypeAlias = Annotated[
    Literal["taylor", "damage", "diagonal"],
    "score from the curvature h: taylor (|w g + w² h / 2|, the estimated change of the loss without the weight), "
    "damage (w² h / 2) or diagonal (h)",
]
Batch: TypeAlias = Annotated[int, Ge(1), "number of images in each gradient"]
WarmUp: TypeAlias = Annotated[
    int, Ge(0), "number of training images whose BatchNorm statistics replace the initial 0 and 1; 0 keeps these"
]


@criteria.register(
    gradients=lambda options: 1 + options["warm_up"] / (3 * options["images"]),
    states=2,
    source="Gollini Navarrete et al. 2025",
)
def fisher(
    evidence: Evidence,
    *,
    images: Annotated[int, Ge(1), "number of training images (the paper: ten per class)"] = 100,
    batch: Batch = 1,
    saliency: Saliency = "taylor",
    warm_up: WarmUp = 512,
) -> Tensors:
    """Score by the diagonal of the empirical Fisher matrix: squared gradients, one image at a time.

    The network is in evaluation mode, after a warm-up of its BatchNorm statistics. The authors warm up over an epoch
    by moving averages, here they are means over batches; the authors leave the classifier dense.

    Args:
        evidence: Network under its present masks, with the batches that `images` and `warm_up` draw from.
        images: Number of training images.
        batch: Number of images whose mean gradient is squared.
        saliency: `taylor`, |w g + w² h / 2| with the mean gradient g; `damage`, w² h / 2; or `diagonal`, h.
        warm_up: Number of training images that BatchNorm's statistics are averaged over; 0 for none.

    Returns:
        Scores, name -> tensor of the weight's shape, dtype and device; higher is kept.

    Examples:
        Two images with the gradients 1 and 3 for both weights: h is 5, the mean gradient 2.

        >>> from autosparse import score
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> _ = model.load_state_dict({"weight": torch.tensor([[1.0, -2.0]])})
        >>> batch = torch.tensor([[1.0, 1.0], [3.0, 3.0]]), torch.zeros(2)
        >>> score(model, [batch], criterion="fisher", loss=lambda outputs, y: outputs.mean())
        {'weight': tensor([[4.5000, 6.0000]])}

    References:
        Gollini Navarrete et al. 2025, arXiv 2502.11450: Fisher-Taylor sensitivity, Fisher pruning, Fisher diagonal.
    """
    evidence = _warmed_up(evidence, warm_up)
    batches = in_batches(evidence.draw(images), batch)
    mean, squares = _zeros(evidence), _zeros(evidence)
    for one in batches:
        for name, part in evidence.gradient(evidence.weights, [one], mode="evaluation").items():
            mean[name] += part / len(batches)
            squares[name] += part.square() / len(batches)
    return _saliency(saliency, evidence.initial, mean, squares)


@criteria.register(
    gradients=lambda options: 1 + options["warm_up"] / (3 * options["images"]),
    hessian_products=lambda options: options["probes"],
    states=3,
    source="Gollini Navarrete et al. 2025",
)
def hutchinson(
    evidence: Evidence,
    *,
    images: Annotated[int, Ge(1), "number of training images (the paper: ten per class)"] = 100,
    batch: Batch = 1,
    probes: Annotated[int, Ge(1), "number of random vectors for each batch"] = 10,
    temperature: Annotated[float, Gt(0), "divisor of the logits"] = 200.0,
    saliency: Saliency = "taylor",
    warm_up: WarmUp = 512,
) -> Tensors:
    """Score by the diagonal of the Hessian: the mean of z (H z) over vectors z of random signs.

    The network is in evaluation mode, after a warm-up of its BatchNorm statistics as for `fisher`. The vectors cover
    the prunable weights; those of the authors cover every parameter, which adds noise of the same mean.

    Args:
        evidence: Network under its present masks, with the batches that `images` and `warm_up` draw from; its
            generator draws the signs.
        images: Number of training images.
        batch: Number of images in each product.
        probes: Number of random vectors for each batch.
        temperature: Divisor of the logits.
        saliency: `taylor`, |w g + w² h / 2| with the mean gradient g; `damage`, w² h / 2; or `diagonal`, h.
        warm_up: Number of training images that BatchNorm's statistics are averaged over; 0 for none.

    Returns:
        Scores, name -> tensor of the weight's shape, dtype and device; higher is kept.

    Examples:
        The loss 2 w² has the second derivative 4, whatever the signs.

        >>> from autosparse import score
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> _ = model.load_state_dict({"weight": torch.tensor([[3.0]])})
        >>> batch, squared = (torch.ones(1, 1), torch.zeros(1)), lambda outputs, y: 2 * (outputs**2).mean()
        >>> score(model, [batch], criterion="hutchinson", temperature=1.0, saliency="diagonal", loss=squared)
        {'weight': tensor([[4.]])}

    References:
        Gollini Navarrete et al. 2025, arXiv 2502.11450: Hutchinson-Taylor sensitivity, Hutchinson pruning, Hutchinson
        diagonal.
    """
    evidence = _warmed_up(evidence, warm_up)
    weights, batches = evidence.weights, in_batches(evidence.draw(images), batch)
    mean, diagonal = _zeros(evidence), _zeros(evidence)
    for one in batches:
        for name, part in evidence.gradient(weights, [one], temperature, mode="evaluation").items():
            mean[name] += part / len(batches)
        for _ in range(probes):
            signs = {name: _signs(weight, evidence.generator) for name, weight in weights.items()}
            product = evidence.hessian_times(signs, weights, [one], temperature, mode="evaluation")
            for name, part in product.items():
                diagonal[name] += signs[name] * part
    diagonal = {name: part / (probes * len(batches)) for name, part in diagonal.items()}
    return _saliency(saliency, evidence.initial, mean, diagonal)


def _warmed_up(evidence: Evidence, images: int) -> Evidence:
    return evidence.with_statistics(inputs for inputs, _ in evidence.draw(images)) if images else evidence


def _zeros(evidence: Evidence) -> Tensors:
    return {name: torch.zeros_like(weight) for name, weight in evidence.weights.items()}


def _signs(weight: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return (2 * torch.randint(2, weight.shape, generator=generator, device="cpu") - 1).to(weight)


def _saliency(kind: str, weights: Tensors, gradient: Tensors, curvature: Tensors) -> Tensors:
    if kind == "diagonal":
        return curvature
    damage = {name: weight.square() * curvature[name] / 2 for name, weight in weights.items()}
    if kind == "damage":
        return damage
    return {name: (weight * gradient[name] + damage[name]).abs() for name, weight in weights.items()}
