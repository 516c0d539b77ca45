"""Update rules: what torch's optimizers do in a step, by torch's own functions for it.

Its classes import torch's compiler as soon as the first of them is made: 1.4 s of every process, for some 900 modules
that only `core/training/torch_compile.py` uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol

from autosparse.lazy_torch import torch


class Update(Protocol):
    """A rule that changes parameters, all of which have gradients; `lr` is the learning rate of the next step."""

    lr: float

    def step(self) -> None:
        """Change the parameters."""
        ...


class SGD:
    """Stochastic gradient descent with momentum, as `torch.optim.SGD`."""

    def __init__(
        self,
        parameters: Sequence[torch.Tensor],
        lr: float,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        fused: bool = False,
    ) -> None:
        self.lr = lr
        self._parameters = [*parameters]
        self._momenta: list[torch.Tensor | None] = [None] * len(self._parameters)
        facts = {"momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
        self._facts: dict[str, Any] = {**facts, "dampening": 0.0, "maximize": False, "fused": fused or None}
        self._step = import_module("torch.optim.sgd").sgd

    def step(self) -> None:
        """As `Update.step`."""
        with torch.no_grad():
            self._step(self._parameters, _gradients(self._parameters), self._momenta, lr=self.lr, **self._facts)


class Adam:
    """Adam (Kingma and Ba 2015), as `torch.optim.Adam`, or with weight decay `torch.optim.AdamW` (Loshchilov 2019)."""

    def __init__(
        self, parameters: Sequence[torch.Tensor], lr: float, *, weight_decay: float = 0.0, fused: bool = False
    ) -> None:
        self.lr = lr
        self._parameters = [*parameters]
        self._means = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._counts = [
            torch.zeros((), dtype=torch.float32, device=parameter.device if fused else "cpu")
            for parameter in self._parameters
        ]
        facts = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "amsgrad": False, "maximize": False}
        decay = {"weight_decay": weight_decay, "decoupled_weight_decay": True}
        self._facts: dict[str, Any] = {**facts, **decay, "fused": fused or None}
        self._step = import_module("torch.optim.adam").adam

    def step(self) -> None:
        """As `Update.step`."""
        with torch.no_grad():
            self._step(
                self._parameters,
                _gradients(self._parameters),
                self._means,
                self._squares,
                [],
                self._counts,
                lr=self.lr,
                **self._facts,
            )


def forget_gradients(parameters: Sequence[torch.Tensor]) -> None:
    """Take the gradients of parameters away, as the next ones would be added to them."""
    for parameter in parameters:
        parameter.grad = None


def _gradients(parameters: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    assert len(gradients) == len(parameters)
    return gradients
