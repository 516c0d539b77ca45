"""Sensitivity to a weight of the loss, of its gradient's norm, and of the loss after a few steps."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt

from autosparse.core.criteria._base import Parts, ScoringMode, criteria
from autosparse.core.evidence import Evidence
from autosparse.core.inputs import in_parts
from autosparse.core.weights import Tensors


@criteria.register(gradients=1, source="Lee, Ajanthan & Torr 2019, eq. 5")
def snip(
    evidence: Evidence,
    *,
    images: Annotated[int, Ge(1), "number of training images for the gradient"] = 256,
    mode: ScoringMode = "training",
) -> Tensors:
    """Score by |w g|, the sensitivity of the loss to a weight.

    Args:
        evidence: Network under its present masks, with the batches that `images` draws from.
        images: Number of training images that the gradient is averaged over.
        mode: Mode of the forward pass: `training` (BatchNorm on batch statistics, dropout on) or `evaluation`.

    Returns:
        Scores, name -> tensor of the weight's shape, dtype and device; higher is kept.

    Examples:
        >>> import torch
        >>> from autosparse import score
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> _ = model.load_state_dict({"weight": torch.tensor([[1.0, -2.0]])})
        >>> batch = torch.tensor([[1.0, 3.0]]), torch.zeros(1)
        >>> score(model, [batch], criterion="snip", loss=lambda outputs, y: outputs.mean())
        {'weight': tensor([[1., 6.]])}

    References:
        Lee, Ajanthan & Torr 2019, arXiv 1810.02340, eq. 5.
    """
    gradient = evidence.gradient(evidence.weights, evidence.draw(images), mode=mode)
    return {name: (weight * gradient[name]).abs() for name, weight in evidence.initial.items()}


@criteria.register(version=2, gradients=1, hessian_products=1, source="Wang, Zhang & Grosse 2020, eq. 8, negated")
def grasp(
    evidence: Evidence,
    *,
    images: Annotated[int, Ge(1), "number of training images (the paper: ten per class)"] = 100,
    temperature: Annotated[float, Gt(0), "divisor of the logits"] = 200.0,
    mode: ScoringMode = "training",
    parts: Parts = 2,
) -> Tensors:
    """Score by w (H g), the effect of removing a weight on the gradient norm; two microbatches, as in the paper.

    Args:
        evidence: Network under its present masks, with the batches that `images` draws from.
        images: Number of training images that the gradient is averaged over.
        temperature: Divisor of the logits.
        mode: Mode of the forward pass: `training` (BatchNorm on batch statistics, dropout on) or `evaluation`.
        parts: Number of microbatches; memory is that of one of them.

    Returns:
        Scores, name -> tensor of the weight's shape, dtype and device; higher is kept.

    Examples:
        >>> import torch
        >>> from autosparse import score
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> _ = model.load_state_dict({"weight": torch.tensor([[1.0, -2.0]])})
        >>> batch = torch.ones(1, 2), torch.zeros(1)
        >>> squared = lambda outputs, y: (outputs**2).mean()
        >>> score(model, [batch], criterion="grasp", temperature=1.0, loss=squared)
        {'weight': tensor([[-8., 16.]])}

    References:
        Wang, Zhang & Grosse 2020, arXiv 2002.07376, eq. 8, negated; g and H are the gradient and the Hessian of the
        mean loss.
    """
    batches = in_parts(evidence.draw(images), parts)
    gradient = evidence.gradient(evidence.weights, batches, temperature, mode=mode)
    product = evidence.hessian_times(gradient, evidence.weights, batches, temperature, mode=mode)
    return {name: weight * product[name] for name, weight in evidence.initial.items()}


# Each step: a gradient forward, a Hessian-vector product backward.
@criteria.register(
    gradients=lambda options: 1 + options["steps"],
    hessian_products=lambda options: options["steps"],
    states=lambda options: options["steps"] + 2,
    source="Alizadeh et al. 2022, section 3",
)
def prospr(
    evidence: Evidence,
    *,
    steps: Annotated[int, Ge(1), "number of training steps to differentiate through"] = 3,
    lr: Annotated[float, Gt(0), "learning rate of those steps (plain gradient descent)"] = 0.1,
    images: Annotated[int, Ge(1), "number of training images per step and for the final loss"] = 128,
    mode: ScoringMode = "training",
    parts: Parts = 1,
) -> Tensors:
    """Score by |w dL/dw|, L being the loss after a few training steps from w, with every parameter trained.

    Backpropagation through a step w - lr g(w) needs one Hessian-vector product. Memory is that of one such product on
    one batch, or one of its `parts`, plus a copy of the parameters for each step.

    Args:
        evidence: Network under its present masks, with the batches that `images` draws from.
        steps: Number of training steps that the gradient passes through.
        lr: Learning rate of these steps, plain gradient descent.
        images: Number of training images in each step, and in the loss after the last.
        mode: Mode of the forward pass: `training` (BatchNorm on batch statistics, dropout on) or `evaluation`.
        parts: Number of microbatches; memory is that of one of them.

    Returns:
        Scores, name -> tensor of the weight's shape, dtype and device; higher is kept.

    Examples:
        One step from w = 1 on the loss w² leads to 0.8 w, whose loss 0.64 w² has the derivative 1.28.

        >>> import torch
        >>> from autosparse import score
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> _ = model.load_state_dict({"weight": torch.tensor([[1.0]])})
        >>> batch = torch.ones(1, 1), torch.zeros(1)
        >>> squared = lambda outputs, y: (outputs**2).mean()
        >>> score(model, [batch], criterion="prospr", steps=1, lr=0.1, images=1, loss=squared)
        {'weight': tensor([[1.2800]])}

    References:
        Alizadeh et al. 2022, arXiv 2202.08132, section 3.
    """
    state, passed = {**evidence.weights, **evidence.others}, []
    for _ in range(steps):
        batches = in_parts(evidence.draw(images), parts)
        gradient = _present(evidence, evidence.gradient(state, batches, mode=mode))
        passed.append((state, batches))
        state = {name: tensor - lr * gradient[name] for name, tensor in state.items()}
    del gradient
    felt = evidence.gradient(state, in_parts(evidence.draw(images), parts), mode=mode)
    while passed:
        state, batches = passed.pop()
        bent = evidence.hessian_times(_present(evidence, felt), state, batches, mode=mode)
        for name, part in felt.items():
            part -= lr * bent[name]
    return {name: (weight * felt[name]).abs() for name, weight in evidence.initial.items()}


def _present(evidence: Evidence, tensors: Tensors) -> Tensors:
    # Training under masks leaves pruned weights at zero. Full masks need no copy.
    pruned = {name: mask for name, mask in evidence.masks.items() if not bool(mask.all())}
    return {name: tensor * pruned[name] if name in pruned else tensor for name, tensor in tensors.items()}
