"""Update rules: what torch's optimizers do in a step, by torch's own functions for it.

Its classes import torch's compiler as soon as the first of them is made: 1.4 s of every process, for some 900 modules
that nothing here uses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from autosparse.lazy import torch


class Update(ABC):
    """A rule that changes parameters by their gradients; `lr` is the learning rate of the next step."""

    def __init__(self, parameters: Sequence[torch.Tensor], lr: float, *, fused: bool) -> None:
        self.lr = lr
        self.parameters = [*parameters]
        self._fused = True if fused else None  # None: what is best of the others for the device

    @abstractmethod
    def step(self) -> None:
        """Change the parameters, all of which have gradients."""

    def forget_gradients(self) -> None:
        """Take the parameters' gradients away, as the next ones would be added to them."""
        for parameter in self.parameters:
            parameter.grad = None

    def _gradients(self) -> list[torch.Tensor]:
        return [parameter.grad for parameter in self.parameters if parameter.grad is not None]


class SGD(Update):
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
        super().__init__(parameters, lr, fused=fused)
        self._momenta: list[torch.Tensor | None] = [None] * len(self.parameters)
        facts = {"momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
        self._facts: dict[str, Any] = {**facts, "dampening": 0.0, "maximize": False}
        self._step = import_module("torch.optim.sgd").sgd

    def step(self) -> None:
        with torch.no_grad():
            self._step(
                self.parameters, self._gradients(), self._momenta, lr=self.lr, fused=self._fused, **self._facts
            )  # fmt: skip


class Adam(Update):
    """Adam (Kingma and Ba 2015), as `torch.optim.Adam`, or with weight decay `torch.optim.AdamW` (Loshchilov 2019)."""

    def __init__(
        self, parameters: Sequence[torch.Tensor], lr: float, *, weight_decay: float = 0.0, fused: bool = False
    ) -> None:
        super().__init__(parameters, lr, fused=fused)
        self._means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._counts = [torch.zeros((), device=tensor.device if fused else "cpu") for tensor in self.parameters]
        facts = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "amsgrad": False, "maximize": False}
        self._facts: dict[str, Any] = {**facts, "weight_decay": weight_decay, "decoupled_weight_decay": True}
        self._step = import_module("torch.optim.adam").adam

    def step(self) -> None:
        with torch.no_grad():
            self._step(
                self.parameters,
                self._gradients(),
                self._means,
                self._squares,
                [],
                self._counts,
                lr=self.lr,
                fused=self._fused,
                **self._facts,
            )
