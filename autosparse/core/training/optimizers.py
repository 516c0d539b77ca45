"""Update rules: the steps of torch's optimizers, by torch's functional forms.

The first instance of torch's optimizer classes imports its compiler: 1.4 s of every process, for some 900 modules that
only `torch.compile` uses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from autosparse.core.training.recipe import Recipe
from autosparse.lazy_torch import torch


@dataclass
class Update:
    """A rule that changes parameters, all of which have gradients; `lr` is the learning rate of the next step.

    `state` holds the lists that torch's function keeps between steps, an entry for each parameter, or none.
    """

    rule: Callable[..., None]
    parameters: list[torch.Tensor]
    lr: float
    state: tuple[list[Any], ...]
    facts: dict[str, Any]

    def step(self) -> None:
        """Change the parameters."""
        gradients = [parameter.grad for parameter in self.parameters]
        assert all(gradient is not None for gradient in gradients)
        with torch.no_grad():
            self.rule(self.parameters, gradients, *self.state, lr=self.lr, **self.facts)

    def descend(self, loss: torch.Tensor) -> None:
        """Change the parameters by the gradient of a loss alone."""
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward()
        self.step()


def sgd(
    parameters: Sequence[torch.Tensor],
    lr: float,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    fused: bool = False,
) -> Update:
    """Return stochastic gradient descent with momentum, as `torch.optim.SGD`."""
    facts = {"momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay, "fused": fused or None}
    rule = import_module("torch.optim.sgd").sgd
    return Update(rule, [*parameters], lr, ([None] * len(parameters),), {**facts, "dampening": 0.0, "maximize": False})


def adam(parameters: Sequence[torch.Tensor], lr: float, *, weight_decay: float = 0.0, fused: bool = False) -> Update:
    """Return Adam (Kingma and Ba 2015), as `torch.optim.Adam`, or with weight decay `AdamW` (Loshchilov 2019)."""
    means, squares = ([torch.zeros_like(parameter) for parameter in parameters] for _ in range(2))
    devices = [parameter.device if fused else "cpu" for parameter in parameters]
    counts = [torch.zeros((), dtype=torch.float32, device=device) for device in devices]
    facts = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "amsgrad": False, "maximize": False, "fused": fused or None}
    decay = {"weight_decay": weight_decay, "decoupled_weight_decay": True}
    rule = import_module("torch.optim.adam").adam
    return Update(rule, [*parameters], lr, (means, squares, [], counts), {**facts, **decay})


def update_rule(vectors: Sequence[torch.Tensor], recipe: Recipe) -> Update:
    """Return the recipe's optimizer over one or several vectors of parameters."""
    # Fused: one pass over a vector instead of three.
    shared: dict[str, Any] = {"weight_decay": recipe.weight_decay, "fused": vectors[0].device.type in ("cpu", "cuda")}
    if recipe.optimizer == "adamw":
        return adam(vectors, recipe.lr, **shared)
    nesterov = recipe.nesterov and recipe.momentum > 0
    return sgd(vectors, recipe.lr, momentum=recipe.momentum, nesterov=nesterov, **shared)
