"""Short training of a network under masks, on a copy of its state: the network's weights stay unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from autosparse.core.evidence import Batch, Evidence
from autosparse.core.torch_compat.memory_layout import flattened, in_shape, takes_channels_last
from autosparse.core.torch_compat.random_state import Generators, seeded
from autosparse.core.training.loop import autocast
from autosparse.core.training.optimizers import update_rule
from autosparse.core.training.recipe import Recipe, learning_rate
from autosparse.core.weights import Tensors, total_of
from autosparse.errors import UsageError
from autosparse.lazy_torch import torch


class Divergence(ValueError):
    """Training that reached values that are not finite."""


class Learner:
    """The state of a network, trained by a recipe's update rule over one cycle of its learning rate in `steps`.

    A presence, 0 to 1, scales every weight. One vector holds all trained values, prunable weights first; the network
    sees views of a second one, which is the first times the presences: one call each for the optimizer, the masks and
    the gradient of a presence.
    """

    def __init__(self, evidence: Evidence, recipe: Recipe, steps: int) -> None:
        state = evidence.state()
        self._channels_last = takes_channels_last(evidence.model, evidence.example())
        kinds = {state[name].dtype for name in evidence.weights}
        if len(kinds) > 1:
            raise UsageError(
                f"prunable weights are {' and '.join(sorted(map(str, kinds)))}, but they are trained in one precision",
                "convert the model, such as with `model.float()`",
            )
        trains = {name for name, parameter in evidence.model.named_parameters() if parameter.requires_grad}
        names = [name for name in state if name in evidence.weights or (name in trains and state[name].dtype in kinds)]
        vector = torch.cat([flattened(state[name].detach(), self._channels_last) for name in names])
        self.evidence, self.recipe = evidence, replace(recipe, schedule="one_cycle")
        self.steps, self.done = steps, 0.0
        self.prunable = total_of(evidence.weights)
        self._names, self._state = names, state
        self._values = torch.nn.Parameter(vector)
        self._values.grad = torch.zeros_like(vector)
        self._seen = vector.clone()
        self._optimizer = update_rule([self._values], recipe)
        leaves = self._parts(self._seen, names)
        for (name, leaf), gradient in zip(leaves.items(), self._parts(self._values.grad, names).values(), strict=True):
            self._state[name] = leaf.requires_grad_()
            leaf.grad = gradient
        self._leaves = [*leaves.values()]

    def step(self, batch: Batch, presence: torch.Tensor, *, weights: bool = True, share: float = 1.0) -> torch.Tensor:
        """Take one step on a batch under `presence` [prunable]; return the loss's gradient in the presences.

        Without `weights` only the gradient is computed. The learning-rate cycle advances by `share` of one of its
        `steps`.
        """
        values, gradient = self._values.detach(), self._values.grad
        assert gradient is not None
        torch.mul(values[: self.prunable], presence, out=self._seen[: self.prunable])
        self._seen[self.prunable :].copy_(values[self.prunable :])
        gradient.zero_()
        forward = autocast(values.device, self.recipe.precision)
        self.evidence.differentiate(self._state, batch, self._leaves, forward)
        presence_gradient = gradient[: self.prunable] * values[: self.prunable]
        if weights:
            gradient[: self.prunable].mul_(presence)
            self._optimizer.lr = self.recipe.lr * learning_rate(self.recipe, self.done / self.steps)
            self._optimizer.step()
        self.done += share
        return presence_gradient

    def learned(self) -> Tensors:
        """Return the present state by name, weights without presences. Raises Divergence when it is not finite."""
        values = self._values.detach()
        if not bool(values.isfinite().all()):
            raise Divergence(f"training for {round(self.done)} steps diverged: a lower learning rate may help")
        state = {name: tensor.detach() for name, tensor in self._state.items()}
        return {**state, **self._parts(values.clone(), self._names)}

    def vector(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Concatenate tensors of the prunable weights, by name, to a vector [prunable] in the order of presences."""
        return torch.cat([flattened(tensors[name], self._channels_last) for name in self.evidence.weights])

    def named(self, vector: torch.Tensor) -> Tensors:
        """Split a vector [prunable] into tensors by the weights' names, in their shapes."""
        return self._parts(vector, [*self.evidence.weights])

    def _parts(self, vector: torch.Tensor, names: Sequence[str]) -> Tensors:
        parts = vector.split([self._state[name].numel() for name in names])
        return {
            name: in_shape(part, self._state[name].shape, self._channels_last)
            for name, part in zip(names, parts, strict=True)
        }


def learn_briefly(
    evidence: Evidence,
    batches: Iterator[Batch],
    recipe: Recipe,
    steps: int,
    observe: Callable[[int], None] = lambda done: None,
) -> Evidence:
    """Return the network under its masks, after `steps` of training. Raises Divergence when training diverges."""
    learner = Learner(evidence, recipe, steps)
    presence = learner.vector({name: mask.to(evidence.weights[name].dtype) for name, mask in evidence.masks.items()})
    with seeded_by(evidence):
        for step in range(steps):
            learner.step(next(batches), presence)
            observe(step + 1)
    return replace(evidence, trained=learner.learned()).masked(evidence.masks)


def warmed_up(evidence: Evidence, recipe: Recipe, steps: int) -> Evidence:
    """Return the network under its masks after `steps` on the first training batches; unchanged for 0.

    Raises ValueError when training diverges.
    """
    return learn_briefly(evidence, evidence.training_batches(), recipe, steps) if steps else evidence


def seeded_by(evidence: Evidence) -> Generators:
    """Seed the network's random draws, such as dropout, from the evidence's generator, inside a context."""
    return seeded(int(torch.randint(2**62, (), generator=evidence.generator, device="cpu")))
