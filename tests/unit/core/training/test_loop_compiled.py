"""Networks that are trained by torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from autosparse.core.training.loop import train
from autosparse.core.training.recipe import Recipe
from autosparse.core.training.torch_compile import compiled
from autosparse.errors import MissingExtra, StepError
from tests.unit.core.conftest import images_of, seeded

RECIPE = Recipe(epochs=3, batch=8, lr=0.05, crop=1, precision="float32", kernels="compiled")


def network(seed: int) -> nn.Module:
    """A convolution, batch normalization, a ReLU and a head."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))


def numbers(model: nn.Module) -> torch.Tensor:
    """All parameters in one vector."""
    return torch.cat([parameter.detach().flatten().clone() for parameter in model.parameters()])


def trained(kernels: Any, seed: int = 0) -> torch.Tensor:
    """All numbers of a small network after three epochs of two batches, of which the second is smaller."""
    images = images_of(12)
    model = network(seed)
    model(images.normalize(images.pixels[:2]))  # type: ignore[index]
    before = numbers(model)
    mask = torch.rand(model[0].weight.shape, generator=seeded()) < 0.5  # type: ignore[index]
    train(model, images, replace(RECIPE, kernels=kernels), seeded(), masks={"0.weight": mask})
    after = numbers(model)
    assert not torch.allclose(before, after, atol=1e-2)
    assert bool((model[0].weight[~mask] == 0).all())  # type: ignore[index]
    return after


@pytest.mark.slow
def test_it_learns_as_ever() -> None:
    """Up to rounding; and the same bytes whatever was compiled in the process before."""
    first = trained("compiled")
    trained("compiled", seed=1)

    assert torch.equal(first, trained("compiled"))
    assert torch.allclose(first, trained("dense"), atol=1e-4)


@pytest.fixture
def compiling(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the calls of a stand-in for torch.compile, which compiles nothing."""
    asked: list[str] = []

    def compile_(model: nn.Module, **options: Any) -> Callable[[torch.Tensor], torch.Tensor]:
        def forward(images: torch.Tensor) -> torch.Tensor:
            asked.append(f"compiled {len(images)} {options}")
            return images

        return forward

    monkeypatch.setattr(torch, "compile", compile_)
    monkeypatch.setattr(torch.compiler, "reset", lambda: asked.append("forgotten"))
    return asked


def test_batches_of_other_sizes_are_not_compiled(compiling: list[str]) -> None:
    """A smaller last batch goes through the network as it is; nothing remains of the compiled one."""
    with compiled(nn.Linear(2, 1)) as forward:
        shapes = [tuple(forward(torch.zeros(size, 2)).shape) for size in (8, 8, 3)]

    assert [(8, 2), (8, 2), (3, 1)] == shapes
    options = {"dynamic": False, "options": {"cpp.threads": torch.get_num_threads()}}
    assert ["forgotten", f"compiled 8 {options}", f"compiled 8 {options}", "forgotten"] == compiling


class _Failed(Exception):
    __module__ = "torch._dynamo.exc"


class InvalidCxxCompiler(Exception):
    """As torch names it."""

    __module__ = "torch._inductor.exc"


@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        (_Failed("a reason\nand more"), StepError, "torch cannot compile this network: a reason"),
        (InvalidCxxCompiler("No working C++ compiler"), MissingExtra, "finds none"),
        (ZeroDivisionError("the network's own"), ZeroDivisionError, "the network's own"),
    ],
)
def test_failures_have_a_hint(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, expected: type[Exception], message: str
) -> None:
    """A limitation of torch is one line; an error of the network itself is raised unchanged. Of either pass: torch
    compiles the backward one when it is asked for.
    """

    def forward(images: torch.Tensor) -> torch.Tensor:
        raise raised

    monkeypatch.setattr(torch, "compile", lambda model, **_: forward)
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)
    with pytest.raises(expected, match=message), compiled(nn.Linear(1, 1)) as network:
        network(torch.zeros(1))
    with pytest.raises(expected, match=message), compiled(nn.Linear(1, 1)):
        raise raised
