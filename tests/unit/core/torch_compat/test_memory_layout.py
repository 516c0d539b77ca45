"""Networks are trained, evaluated and searched in the memory layout that they take."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from autosparse.core.images import Images
from autosparse.core.torch_compat.memory_layout import images_for, lay_out, takes_channels_last
from autosparse.core.training.loop import accuracy, train
from autosparse.core.training.masked_steps import learn_briefly
from autosparse.core.training.recipe import Recipe
from autosparse.core.weights import prunable_weights
from autosparse.errors import OwnCodeError
from tests.unit.core.conftest import evidence_of

SHAPE = (3, 8, 8)


class Tutorial(nn.Module):
    """As PyTorch's tutorial on CIFAR-10 flattens: by `view`, which takes the default layout alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 1)
        self.head = nn.Linear(8 * 3 * 3, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = nn.functional.max_pool2d(torch.relu(self.first(x)), 2)
        output: Tensor = self.head(torch.relu(self.second(x)).view(-1, 8 * 3 * 3))
        return output


class Strided(nn.Module):
    """Reads memory as it lies: in channels_last it runs, and gives something else."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 6, 3), nn.Linear(216, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = torch.relu(self.first(x))
        output: Tensor = self.head(x.as_strided((len(x), 216), (216, 1)))
        return output


def usual() -> nn.Module:
    """A network that takes either layout."""
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 5))


def images() -> Images:
    """Twelve random images of five classes."""
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (12, 8, 8, 3), dtype=torch.uint8, generator=random)
    return Images(pixels, torch.arange(12) % 5, torch.full((3,), 0.5), torch.full((3,), 0.25))


@pytest.mark.parametrize(("build", "expected"), [(usual, True), (Tutorial, False), (Strided, False)])
def test_which_layout_a_network_takes(build: Callable[[], nn.Module], expected: bool) -> None:
    """A network that fails in channels_last, or gives something else, takes the default layout; it stays as it was."""
    torch.manual_seed(0)
    network = build()
    before = {name: (tensor.clone(), tensor.stride()) for name, tensor in network.state_dict().items()}

    assert expected == takes_channels_last(network, torch.zeros(2, *SHAPE))

    assert all(
        torch.equal(tensor, before[name][0]) and tensor.stride() == before[name][1]
        for name, tensor in network.state_dict().items()
    )
    assert expected != images_for(network, images()).contiguous
    assert expected == (not lay_out(network, images()).contiguous)


@pytest.mark.parametrize("build", [Tutorial, Strided])
def test_training_in_the_default_layout(build: Callable[[], nn.Module]) -> None:
    """Such a network trains under masks, is evaluated, and learns for a search, with contiguous tensors throughout."""
    torch.manual_seed(0)
    network, data = build(), images()
    masks = {name: torch.rand(weight.shape) < 0.5 for name, weight in prunable_weights(network).items()}
    evidence = evidence_of(network, SHAPE, masks=masks)
    batch = next(images_for(network, data).in_order(12))

    learned = learn_briefly(evidence, iter([batch] * 3), Recipe(lr=0.05, precision="float32"), 3)
    losses = train(network, data, Recipe(epochs=3, batch=6, crop=0, lr=0.05), torch.Generator(), masks=masks)

    assert losses[-1] < losses[0]
    assert 0 <= accuracy(network, data, "float32") <= 100
    assert all(tensor.is_contiguous() for tensor in learned.trained.values())
    assert 0 == sum(int(prunable_weights(network)[name][~mask].count_nonzero()) for name, mask in masks.items())


def test_a_network_that_runs_in_no_layout() -> None:
    """A failure in the default layout is the network's error, in one line."""
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.Linear(7, 5))

    with pytest.raises(OwnCodeError, match="calling `Sequential` failed in layer `2`: RuntimeError: mat1 and mat2"):
        takes_channels_last(network, torch.zeros(2, *SHAPE))
