"""Small networks and batches that the tests of the one-call interface share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from autosparse import Masks, score
from autosparse.core.criteria import criteria
from autosparse.core.presets import PRESETS
from autosparse.core.schedule import schedules
from autosparse.core.weights import prunable_weights


def name_of(choice: str | dict[str, object]) -> object:
    """The name of a choice, written alone or with options."""
    return choice if isinstance(choice, str) else choice["name"]


CRITERIA = [entry.name for entry in criteria if not {"needs_scorer", "needs_rounds", "needs_order"} & set(entry.facts)]
"""The criteria that need nothing but a network and batches."""
METHODS = [
    name
    for name, (_, method) in PRESETS.items()
    if name_of(method["criterion"]) in CRITERIA
    and "updates" not in method  # those of `sparse_training`
    and "unit" not in method  # those of networks with channels that may leave
]
"""The presets that need no more."""


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """One thread: for tensors this small a second one only waits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def same_dropout() -> Iterator[None]:
    """The global generator begins every test at one seed, and is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def network(seed: int = 0) -> nn.Sequential:
    """A convolution with BatchNorm, dropout and a linear layer, for inputs of 2 x 6 x 6; 3 classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(64, 3)
        )  # fmt: skip


def batches(count: int = 2, size: int = 8) -> list[tuple[Tensor, Tensor]]:
    """Batches of random inputs for `network`, and labels."""
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(size, 2, 6, 6, generator=generator), torch.randint(0, 3, (size,), generator=generator))
        for _ in range(count)
    ]


def in_brief(method: str) -> dict[str, object]:
    """The method, with three rounds in place of a hundred and three training steps in place of hundreds."""
    schedule = PRESETS[method][1]["schedule"]
    written = {"name": schedule} if isinstance(schedule, str) else schedule
    known = schedules[written["name"]].options
    brief = {name: 3 for name in ("rounds", "steps") if name in known and known[name].default}
    return {**PRESETS[method][1], "schedule": {**written, **brief}}


def checkered(model: nn.Module) -> Masks:
    """Masks of every second weight of a network's layers."""
    layers = {name: weight for name, weight in model.named_parameters() if weight.ndim > 1}
    return Masks(
        {name: (torch.arange(weight.numel()) % 2 == 0).view(weight.shape) for name, weight in layers.items()},
        model=model,
    )


def train(model: nn.Module, *optimizers: torch.optim.Optimizer, steps: int = 3) -> None:
    """A few steps on random batches."""
    for inputs, labels in batches(steps):
        nn.functional.cross_entropy(model(inputs), labels).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def masked(model: nn.Module, masks: Masks) -> Tensor:
    """All masked weights of a network below one another."""
    parameters = dict(model.named_parameters())
    return torch.cat([parameters[name].detach()[~mask] for name, mask in masks.items()])


def trained(model: nn.Module, masks: Masks) -> bool:
    """Return whether some kept weights are not zero."""
    parameters = dict(model.named_parameters())
    return any(bool(parameters[name].detach()[mask].any()) for name, mask in masks.items())


def assert_scored(model: nn.Module, data: list[tuple[Tensor, Tensor]], criterion: str) -> None:
    """Every prunable weight has finite scores of its shape, in model order, and they are not all the same."""
    scores = score(model, data, criterion=criterion)

    assert [(key, weight.shape) for key, weight in prunable_weights(model).items()] == [
        (key, values.shape) for key, values in scores.items()
    ]
    assert all(bool(values.isfinite().all()) for values in scores.values())
    assert len(torch.cat([values.flatten() for values in scores.values()]).unique()) > 100
