"""Update rules are torch's, bit for bit, without its compiler."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from autosparse.core.training.optimizers import Update, adam, sgd

_STEPS = 5


def _rules(parameters: list[torch.Tensor], name: str, fused: bool) -> tuple[Update, torch.optim.Optimizer]:
    # One of ours over the parameters, and torch's over copies of them.
    copies = [parameter.detach().clone().requires_grad_() for parameter in parameters]
    theirs: torch.optim.Optimizer
    match name:
        case "sgd":
            facts: dict[str, Any] = {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
            return sgd(parameters, 0.1, fused=fused, **facts), torch.optim.SGD(copies, 0.1, fused=fused, **facts)
        case "plain":
            return sgd(parameters, 0.1, fused=fused), torch.optim.SGD(copies, 0.1, fused=fused)
        case "adam":
            theirs = torch.optim.Adam(copies, 0.01, fused=fused)
            return adam(parameters, 0.01, fused=fused), theirs
        case _:
            theirs = torch.optim.AdamW(copies, 0.01, weight_decay=0.1, fused=fused)
            return adam(parameters, 0.01, weight_decay=0.1, fused=fused), theirs


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", ["sgd", "plain", "adam", "adamw"])
def test_steps_are_torchs(name: str, fused: bool) -> None:
    """With a learning rate that changes, over several parameters."""
    generator = torch.Generator().manual_seed(3)
    parameters = [torch.randn(size, generator=generator, requires_grad=True) for size in (7, 40)]
    ours, theirs = _rules([*parameters], name, fused)
    copies = theirs.param_groups[0]["params"]
    for step in range(_STEPS):
        ours.lr = theirs.param_groups[0]["lr"] = 0.1 / (1 + step)
        for parameter, copy in zip(parameters, copies, strict=True):
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            copy.grad = parameter.grad.clone()
        ours.step()
        theirs.step()

    assert all(torch.equal(parameter, copy) for parameter, copy in zip(parameters, copies, strict=True))


def test_gradients_are_forgotten() -> None:
    """Each descent uses the gradient of its loss, not a sum of earlier ones."""
    parameter = torch.ones(3, requires_grad=True)
    rule = sgd([parameter], 0.25)
    rule.descend(parameter.sum())
    rule.descend(parameter.sum())

    assert torch.equal(torch.full((3,), 0.5), parameter.detach())
