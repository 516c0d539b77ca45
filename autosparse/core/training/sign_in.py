"""Sign-In: kept weights trained as products of two factors, which lets them change their signs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from autosparse.core.training.optimizers import update_rule
from autosparse.core.training.recipe import Recipe
from autosparse.lazy_torch import torch

SCALING = 1.0
"""The inner scaling m^2 - w^2, which the paper sets to 1 in every layer."""


class SignIn:
    """A recipe's optimizer of two vectors m and w; the network's parameters are their product, theta = m w.

    Gadhikar, Jacobs, Zhou & Burkholz 2025, "Sign-In to the lottery", arXiv 2504.12801. By small steps of gradient
    descent on m and w, theta moves at sqrt(4 theta^2 + s^2) times its gradient, s = m^2 - w^2 being the inner scaling:
    large weights move faster, and with s > 0 none stops at zero. A step of size l by gradient g shrinks s to
    s (1 - l^2 g^2), so that `balance` sets it again.

    Weights that no mask has, biases and normalization have the constant m = 1, and train as without factors. Weight
    decay acts on theta, not on m and w, so that the recipe's value means the same for all parameters.

    Args:
        flat: Vector of all parameters with its gradient [parameters]; masked weights are zero.
        recipe: Recipe of the training.
        prunable: Ones where a mask decides, zeros elsewhere [parameters].
        present: Zeros where a mask removes the weight, ones elsewhere [parameters].
    """

    def __init__(self, flat: torch.nn.Parameter, recipe: Recipe, prunable: torch.Tensor, present: torch.Tensor) -> None:
        self._flat, self._prunable, self._present = flat, prunable.bool(), present
        self._decay, self._decoupled = recipe.weight_decay, recipe.optimizer == "adamw"
        factors = [torch.ones_like(flat.data), flat.data.clone()]
        self._inner = update_rule(factors, replace(recipe, weight_decay=0.0))
        self.balance()

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return self._inner.lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._inner.lr = value

    @property
    def state(self) -> tuple[list[Any], ...]:
        """The lists that are kept between steps: those of the optimizer, and m and w."""
        return (*self._inner.state, self._inner.parameters)

    def hold(self, present: torch.Tensor) -> None:
        """Take other masks, as one vector of zeros and ones [parameters]."""
        self._present = present

    def balance(self) -> None:
        """Choose m and w again for the present parameters: the product stays, and the inner scaling is `SCALING`."""
        m, w = self._inner.parameters
        theta = self._flat.data
        larger = ((SCALING + (SCALING**2 + 4 * theta.square()).sqrt()) / 2).sqrt()
        m.copy_(torch.where(self._prunable, larger, 1.0))
        torch.div(theta, m, out=w)

    def step(self) -> None:
        """Change m and w by the gradient of the parameters, and the parameters to their product."""
        theta, gradient = self._flat.data, self._flat.grad
        assert gradient is not None
        m, w = self._inner.parameters
        if self._decoupled:
            w.mul_(1 - self.lr * self._decay)
        else:
            gradient = gradient.add(theta, alpha=self._decay)
        gradient = gradient * self._present
        m.grad, w.grad = gradient * w * self._prunable, gradient * m
        self._inner.step()
        torch.mul(m, w, out=theta)
