"""Masks learned with the weights: scores trained through the mask that they make, before everything is rewound."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from autosparse.core.allocation import Counts
from autosparse.core.evidence import Evidence
from autosparse.core.inputs import in_parts
from autosparse.core.torch_compat.sorting import descending, reached_by
from autosparse.core.training.loop import Recipe
from autosparse.core.training.masked_steps import Divergence, Learner, seeded_by
from autosparse.core.training.optimizers import adam
from autosparse.core.weights import Tensors
from autosparse.lazy_torch import torch

Relaxation = Literal["straight_through", "concrete"]

_CONCRETE = 2 / 3  # temperature of the concrete distribution (Maddison et al. 2017, section 3)


def learn_scores(
    evidence: Evidence,
    start: Mapping[str, torch.Tensor],
    counts: Callable[[float, Tensors], Counts],
    recipe: Recipe,
    *,
    steps: int,
    every: int = 1,
    parts: int = 1,
    score_lr: float,
    relaxation: Relaxation = "straight_through",
    sharpness: float = 10.0,
    train_weights: bool = True,
    observe: Callable[[int, int], None] = lambda done, total: None,
) -> Tensors:
    """Scores of every weight after `steps`, from the ranks of `start` within each layer.

    At every step a layer's mask is the highest `counts(progress, scores)` of its scores, progress in [0, 1), counts
    asked for `every` so many steps. Under it weights and scores are updated with each of the batch's `parts` in turn.
    With weight w under mask m the network sees w * m, and a score gets the gradient of its mask, w * dL/d(w m), as if
    the mask were the score (straight-through: Bengio et al. 2013; edge-popup: Ramanujan et al. 2020, eq. 5).
    `concrete` draws a soft mask from the concrete distribution (Maddison et al. 2017) around the score at which the
    layer's quota is full, and passes the gradient that this mask has. The weights are trained as they are masked,
    unless they stay frozen. Raises ValueError when training diverges.
    """
    learner = Learner(evidence, recipe, steps)
    scores = torch.nn.Parameter(learner.vector({name: ranks(values) for name, values in start.items()}))
    optimizer = adam([scores], score_lr, fused=scores.device.type in ("cpu", "cuda"))
    values = scores.detach()
    layers = values.split([weight.numel() for weight in evidence.weights.values()])
    batches = evidence.training_batches()
    noise = torch.Generator(values.device).manual_seed(
        int(torch.randint(2**62, (), generator=evidence.generator, device="cpu"))
    )
    with seeded_by(evidence):
        for step in range(steps):
            if step % every == 0:
                quotas = counts(step / steps, learner.named(values))
            at = [threshold(layer, quotas[name]) for name, layer in zip(evidence.weights, layers, strict=True)]
            if relaxation == "straight_through":
                presence = torch.cat([(x >= t).to(x.dtype) for x, t in zip(layers, at, strict=True)])
                slope = None
            else:
                apart = torch.cat([x - t for x, t in zip(layers, at, strict=True)]).clamp_(-9e9, 9e9)
                drawn = torch.rand(apart.shape, generator=noise, device=apart.device, dtype=apart.dtype)
                presence = ((sharpness * apart + drawn.logit_(1e-6)) / _CONCRETE).sigmoid_()
                slope = presence * (1 - presence) * (sharpness / _CONCRETE)
            whole = in_parts([next(batches)], parts)
            for batch in whole:
                gradient = learner.step(batch, presence, weights=train_weights, share=1 / len(whole))
                scores.grad = gradient if slope is None else gradient * slope
                optimizer.step()
            observe(step + 1, steps)
    learner.learned()  # raises when it diverged
    if not bool(values.isfinite().all()):
        raise Divergence(f"training scores for {steps} steps diverged: a lower learning rate may help")
    return {name: tensor.contiguous() for name, tensor in learner.named(values).items()}


def ranks(scores: torch.Tensor) -> torch.Tensor:
    """The place of every score among the others, in (0, 1), of which the highest is nearest to 1; ties by position."""
    order = descending(scores.flatten())
    positions = torch.empty(order.shape, dtype=torch.float32, device=order.device)
    positions[order] = torch.arange(len(order), 0, -1, dtype=torch.float32, device=order.device).sub_(0.5) / len(order)
    return positions.view(scores.shape)


def threshold(scores: torch.Tensor, count: int) -> torch.Tensor | float:
    """The score that `count` scores reach: of a vector, `count`-th from above."""
    if count >= len(scores):
        return -torch.inf
    return torch.inf if count <= 0 else reached_by(scores, count)
