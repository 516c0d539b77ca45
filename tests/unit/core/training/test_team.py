"""Data-parallel training is the training that it is of one: the same steps, the same masks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from autosparse.core.images import Images
from autosparse.core.training.loop import train
from autosparse.core.training.recipe import Recipe
from autosparse.core.weights import prunable_weights


class Circle:
    """A team of threads."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.barrier = threading.Barrier(size)
        self.parts: list[torch.Tensor] = [torch.zeros(0)] * size

    def of(self, rank: int) -> Member:
        return Member(self, rank)


class Member:
    """One of them."""

    def __init__(self, circle: Circle, rank: int) -> None:
        self.circle, self.rank, self.size = circle, rank, circle.size

    def _all(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        self.circle.parts[self.rank] = tensor.clone()
        self.circle.barrier.wait()
        result = [part.clone() for part in self.circle.parts]
        self.circle.barrier.wait()
        return result

    def mean(self, tensor: torch.Tensor) -> None:
        tensor.copy_(torch.stack(self._all(tensor)).sum(dim=0) / self.size)

    def lead(self, tensor: torch.Tensor) -> None:
        tensor.copy_(self._all(tensor)[0])


def images(number: int) -> Images:
    """Random pictures of four classes."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (number, 8, 8, 1), generator=generator, dtype=torch.uint8)
    return Images(pixels, torch.arange(number) % 4, torch.tensor([0.5]), torch.tensor([0.25]))


def plain() -> torch.nn.Module:
    """A network without batch normalization, whose steps depend on gradients alone."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(6 * 64, 4)
    )


def normalized() -> torch.nn.Module:
    """The same with batch normalization."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 3, padding=1), torch.nn.BatchNorm2d(6), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(6 * 64, 4),
    )  # fmt: skip


def together(
    build: Callable[[], torch.nn.Module], size: int, number: int, masks: dict[str, torch.Tensor] | None = None
) -> tuple[list[torch.nn.Module], list[list[float]]]:
    """The networks of all members, and their losses; of one that is alone without a team."""
    recipe = Recipe(epochs=2, batch=16, lr=0.05, crop=1, precision="float32", weight_decay=1e-3)
    circle = Circle(size)
    models = [build() for _ in range(size)]

    def one(rank: int) -> list[float]:
        team = circle.of(rank) if size > 1 else None
        return train(models[rank], images(number), recipe, torch.Generator().manual_seed(1), masks=masks, team=team)

    with ThreadPoolExecutor(size) as pool:
        return models, list(pool.map(one, range(size)))


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("number", [48, 50, 49])
def test_a_team_takes_the_steps_of_one(size: int, number: int) -> None:
    """Whole batches, uneven shares, and a last batch of one or two images, which is too small to be shared."""
    (alone,), (losses,) = together(plain, 1, number)
    models, of_team = together(plain, size, number)

    for model in models:
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(tensor, alone.state_dict()[name], rtol=1e-4, atol=1e-5)
    assert losses == pytest.approx(of_team[0], rel=1e-3)


def test_members_end_alike_with_their_masks_held() -> None:
    """Weights, running statistics and zeros, to the bit."""
    masks = {
        name: torch.rand(weight.shape, generator=torch.Generator().manual_seed(2)) < 0.5
        for name, weight in prunable_weights(normalized()).items()
    }
    (first, second), (losses, others) = together(normalized, 2, 50, masks)

    assert losses == others
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    for name, weight in prunable_weights(second).items():
        assert not weight[~masks[name]].any()
        assert weight[masks[name]].any()
