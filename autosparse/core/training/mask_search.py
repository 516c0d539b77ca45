"""Mask search: scores of weights, or of units, that train through the masks they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

from autosparse.core.allocation import Counts
from autosparse.core.evidence import Evidence
from autosparse.core.inputs import in_parts
from autosparse.core.selection import descending, reached_by
from autosparse.core.training.masked_steps import Divergence, Learner, seeded_by
from autosparse.core.training.optimizers import adam
from autosparse.core.training.recipe import Recipe
from autosparse.core.units import Unit
from autosparse.core.weights import Tensors
from autosparse.lazy_torch import torch

Relaxation: TypeAlias = Literal["straight_through", "concrete"]

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
    unit: Unit | None = None,
    keep_weights: Callable[[Tensors], None] = lambda state: None,
    visit: Callable[[int, Tensors], None] = lambda done, scores: None,
) -> Tensors:
    """Return scores of every weight, or unit, after `steps`, from the ranks of `start` within each layer.

    At every step a layer's mask is the highest `counts(progress, scores)` of its scores, progress in [0, 1), counts
    updated every `every` steps. Each of the batch's `parts` (microbatches) updates the scores and, unless frozen, the
    weights under the mask. A score gets the gradient of its mask, w * dL/d(w m) (straight-through: Bengio et al. 2013;
    edge-popup: Ramanujan et al. 2020, eq. 5). `concrete` draws a soft mask (Maddison et al. 2017) around the score
    threshold of the layer's quota. `keep_weights` receives the trained state. `visit` sees the scores after every step,
    and may set some to -inf, which leave. Raises ValueError when training diverges.
    """
    learner = Learner(evidence, recipe, steps)
    kinds = {weight.dtype for weight in evidence.weights.values()}
    views = _Weights(learner) if unit is None else _Units(learner, unit, start, next(iter(kinds)))
    scores = torch.nn.Parameter(views.vector({name: ranks(values) for name, values in start.items()}))
    optimizer = adam([scores], score_lr, fused=scores.device.type in ("cpu", "cuda"))
    values = scores.detach()
    sizes = [part.numel() for part in start.values()]
    batches = evidence.training_batches()
    noise = torch.Generator(values.device).manual_seed(
        int(torch.randint(2**62, (), generator=evidence.generator, device="cpu"))
    )
    with seeded_by(evidence):
        for step in range(steps):
            if step % every == 0:
                quotas = counts(step / steps, views.named(values))
            layers = views.relative(values).split(sizes)
            at = [threshold(layer, quotas[name]) for name, layer in zip(start, layers, strict=True)]
            if relaxation == "straight_through":
                presence = torch.cat([(x >= t).to(x.dtype) for x, t in zip(layers, at, strict=True)])
                slope = None
            else:
                apart = torch.cat([x - t for x, t in zip(layers, at, strict=True)]).clamp_(-9e9, 9e9)
                drawn = torch.rand(apart.shape, generator=noise, device=apart.device, dtype=apart.dtype)
                presence = ((sharpness * apart + drawn.logit_(1e-6)) / _CONCRETE).sigmoid_()
                slope = presence * (1 - presence) * (sharpness / _CONCRETE)
            of_weights, pull = views.spread(presence)
            whole = in_parts([next(batches)], parts)
            for batch in whole:
                gradient = pull(learner.step(batch, of_weights, weights=train_weights, share=1 / len(whole)))
                scores.grad = gradient if slope is None else gradient * slope
                optimizer.step()
            visit(step + 1, views.named(values))
            observe(step + 1, steps)
    learned = learner.learned()  # raises on divergence
    if not bool((values < torch.inf).all()):  # NaN neither
        raise Divergence(f"training scores for {steps} steps diverged: a lower learning rate may help")
    keep_weights(learned)
    return {name: tensor.contiguous() for name, tensor in views.named(values).items()}


class _Weights:
    """Scores of single weights as one vector, in the order of a learner's presences."""

    def __init__(self, learner: Learner) -> None:
        self.vector, self.named = learner.vector, learner.named

    def relative(self, vector: torch.Tensor) -> torch.Tensor:
        """Return the scores: all weights of a layer compete."""
        return vector

    def spread(self, presence: torch.Tensor) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
        """Return the presences of weights, and the function from their gradient to that of the presence."""
        return presence, lambda gradient: gradient


class _Units:
    """Scores of units as one vector."""

    def __init__(self, learner: Learner, unit: Unit, start: Mapping[str, torch.Tensor], kind: torch.dtype) -> None:
        self._learner, self._unit, self._kind = learner, unit, kind
        self._shapes = {name: values.shape for name, values in start.items()}

    def vector(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Concatenate tensors of units, by name."""
        return torch.cat([tensors[name].flatten() for name in self._shapes]).to(self._kind)

    def named(self, vector: torch.Tensor) -> Tensors:
        """Split a vector into tensors by name."""
        parts = vector.split([shape.numel() for shape in self._shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}

    def relative(self, vector: torch.Tensor) -> torch.Tensor:
        """Return the scores that one threshold in each layer cuts."""
        return self.vector(self._unit.relative(self.named(vector)))

    def spread(self, presence: torch.Tensor) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
        """Return the presences of weights, and the function from their gradient to that of the presence."""
        leaf = presence.detach().requires_grad_()
        with torch.enable_grad():
            of_weights = self._learner.vector(self._unit.spread(self.named(leaf)))

        def pull(gradient: torch.Tensor) -> torch.Tensor:
            return torch.autograd.grad(of_weights, leaf, gradient, retain_graph=True)[0]

        return of_weights.detach(), pull


def ranks(scores: torch.Tensor) -> torch.Tensor:
    """Return the rank of every score among the others, in (0, 1), the highest nearest to 1; ties by position."""
    order = descending(scores.flatten())
    positions = torch.empty(order.shape, dtype=torch.float32, device=order.device)
    positions[order] = torch.arange(len(order), 0, -1, dtype=torch.float32, device=order.device).sub_(0.5) / len(order)
    return positions.view(scores.shape)


def threshold(scores: torch.Tensor, count: int) -> torch.Tensor | float:
    """Return the score that `count` scores reach: the `count`-th highest of a vector."""
    if count >= len(scores):
        return -torch.inf
    return torch.inf if count <= 0 else reached_by(scores, count)
