"""Criteria: evidence about a network at initialization -> scores, name -> tensor; higher is kept.

A criterion gives its one-shot score of every weight, pruned ones too: rounds and re-growth belong to the schedule. A
registration states the cost in gradients over its `images` (`gradients`), SynFlow passes (`flows`), descriptions of
every weight (`features`), copies of the parameters (`states`), each a number or a function of the options; and the
paper and equation (`source`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeAlias

from annotated_types import Ge, Gt

from autosparse.core.evidence import Evidence, Mode
from autosparse.core.inputs import in_parts
from autosparse.core.weights import Tensors
from autosparse.lazy_torch import torch
from autosparse.registry import Registry

criteria: Registry[Callable[..., Tensors]] = Registry("criterion", "criteria")


Parts: TypeAlias = Annotated[
    int,
    Ge(1),
    "into how many parts a batch is cut, each with its own BatchNorm statistics: the gradient is that of all, memory "
    "that of one",
]

ScoringMode: TypeAlias = Annotated[
    Mode,
    "training, as the authors do: BatchNorm on the statistics of the batch, dropout at work; evaluation: running "
    "statistics, which are 0 and 1 at initialization",
]


@criteria.register(needs_scorer=True, gradients=1, features=1, source="AutoSparse, arXiv 2408.14757")
def learned(
    evidence: Evidence, *, images: Annotated[int, Ge(1), "training images that the gradient is taken over"] = 512
) -> Tensors:
    """A trained scorer's prediction of survival, of the network in the state in which the scorer looks at it."""
    scorer = evidence.scorer
    assert scorer is not None, "the plan gives a method that needs a scorer its scorer"
    return scorer.predict(evidence, images)


@criteria.register(needs_rounds=True, source="AutoSparse, arXiv 2408.14757; Frankle & Carbin 2019")
def irp(evidence: Evidence) -> Tensors:
    """The rounds of IRP on this very network that a weight survives, and how high the last one ranked it."""
    assert evidence.survival is not None, "the plan gives a method that needs rounds its rounds"
    return {name: order.to(evidence.weights[name].device) for name, order in evidence.survival.items()}


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
