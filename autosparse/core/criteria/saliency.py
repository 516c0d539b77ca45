"""Scores from the literature: magnitude, SNIP, GraSP, SynFlow, ProsPr; and random ones, the control."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt

from autosparse.core.criteria._base import Parts, ScoringMode, criteria
from autosparse.core.evidence import Evidence
from autosparse.core.inputs import in_parts
from autosparse.core.weights import Tensors
from autosparse.lazy_torch import torch


@criteria.register(gradients=1, source="Lee, Ajanthan & Torr 2019, eq. 5")
def snip(
    evidence: Evidence,
    *,
    images: Annotated[int, Ge(1), "training images that the gradient is taken over"] = 256,
    mode: ScoringMode = "training",
) -> Tensors:
    """|w g|: how much the loss feels a weight."""
    gradient = evidence.gradient(evidence.weights, evidence.draw(images), mode=mode)
    return {name: (weight * gradient[name]).abs() for name, weight in evidence.initial.items()}


@criteria.register(version=2, gradients=3.5, source="Wang, Zhang & Grosse 2020, eq. 8, negated")
def grasp(
    evidence: Evidence,
    *,
    images: Annotated[int, Ge(1), "training images; the authors take ten a class"] = 100,
    temperature: Annotated[float, Gt(0), "divides the logits"] = 200.0,
    mode: ScoringMode = "training",
    parts: Parts = 2,
) -> Tensors:
    """w (H g): keep what the gradient's norm needs. As its authors do, on two halves of a batch, one at a time."""
    batches = in_parts(evidence.draw(images), parts)
    gradient = evidence.gradient(evidence.weights, batches, temperature, mode=mode)
    product = evidence.hessian_times(gradient, evidence.weights, batches, temperature, mode=mode)
    return {name: weight * product[name] for name, weight in evidence.initial.items()}


@criteria.register(flows=1, source="Tanaka et al. 2020, eq. 2")
def synflow(evidence: Evidence) -> Tensors:
    """|w| dR/d|w| of the linear positive network, in float64."""
    leaves = {name: weight.detach().abs().double().requires_grad_() for name, weight in evidence.weights.items()}
    _, gradient = evidence.flow_gradient(leaves)
    return {name: weight.abs().double() * gradient[name] for name, weight in evidence.initial.items()}


# Each step: a gradient on the way, a Hessian times a vector on the way back.
@criteria.register(
    gradients=lambda options: 1 + 3.5 * options["steps"],
    states=lambda options: options["steps"] + 2,
    source="Alizadeh et al. 2022, section 3",
)
def prospr(
    evidence: Evidence,
    *,
    steps: Annotated[int, Ge(1), "steps of training that are looked through"] = 3,
    lr: Annotated[float, Gt(0), "their learning rate, of plain gradient descent"] = 0.1,
    images: Annotated[int, Ge(1), "training images of each step, and of the loss after them"] = 128,
    mode: ScoringMode = "training",
    parts: Parts = 1,
) -> Tensors:
    """|w dL/dw|, L being the loss that a few steps of training from w reach, every parameter trained.

    The chain rule backwards through the steps w - lr g(w) needs but a Hessian times a vector for each, so that memory
    is that of one such product on one batch, or one of its `parts`, and of a copy of the parameters for each step,
    however many there are.
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
    # Training under masks leaves what is pruned at zero. Full masks need no copy.
    pruned = {name: mask for name, mask in evidence.masks.items() if not bool(mask.all())}
    return {name: tensor * pruned[name] if name in pruned else tensor for name, tensor in tensors.items()}


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
