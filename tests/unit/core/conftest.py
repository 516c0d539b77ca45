"""Small networks, images and evidence that the tests of the science share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from autosparse.core.evidence import Batch, Evidence, Scorer
from autosparse.core.features import Features
from autosparse.core.images import Images
from autosparse.core.scorers import score_weights
from autosparse.core.weights import Tensors, describe_layers, prunable_weights

SHAPE = (2, 6, 6)
CLASSES = 3


class Small(nn.Module):
    """Two convolutions with BatchNorm, mean pooling and two linear layers, for inputs of `SHAPE`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(4, 5, 3, stride=2, padding=1)
        self.hidden = nn.Linear(5, 6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch."""
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(self.conv(x)).mean(dim=(2, 3))
        output: Tensor = self.head(torch.relu(self.hidden(x)))
        return output


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """One thread: for tensors this small a second one only waits, longest on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def seeded(seed: int = 0) -> torch.Generator:
    """A generator on the CPU."""
    return torch.Generator().manual_seed(seed)


def small(seed: int = 0) -> Small:
    """A `Small` network whose every tensor, running statistics too, is random and none is zero or one."""
    generator = seeded(seed)
    network = Small()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.5)
            if name.endswith("running_var"):
                tensor.abs_().add_(0.1)
    return network


def snapshot(model: nn.Module) -> Tensors:
    """A copy of the whole state of a network."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def assert_same(expected: Tensors, actual: Tensors) -> None:
    """Both hold the same names in the same order, and bit for bit the same tensors."""
    assert list(expected) == list(actual)
    for name, tensor in expected.items():
        assert tensor.dtype == actual[name].dtype, name
        assert torch.equal(tensor, actual[name]), name


def batch_of(shape: Sequence[int], images: int = 8, seed: int = 0, classes: int = CLASSES) -> Batch:
    """Random inputs and labels."""
    generator = seeded(seed)
    return torch.randn(images, *shape, generator=generator), torch.randint(0, classes, (images,), generator=generator)


def evidence_of(
    model: nn.Module,
    shape: tuple[int, ...],
    *,
    batches: Sequence[Batch] | None = None,
    masks: Tensors | None = None,
    seed: int = 0,
) -> Evidence:
    """Evidence about a network whose draw always gives the same batches."""
    weights = {name: weight.detach() for name, weight in prunable_weights(model).items()}
    drawn = [batch_of(shape)] if batches is None else batches
    full = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
    example = torch.zeros((1, *shape), dtype=next(iter(weights.values())).dtype)
    evidence = Evidence(
        model=model,
        weights=weights,
        masks=full,
        layers=describe_layers(model, example),
        draw=lambda images: drawn,
        generator=seeded(seed),
        example=lambda: example,
    )
    return evidence if masks is None else evidence.masked(masks)


def images_of(count: int, shape: tuple[int, int, int] = SHAPE, seed: int = 0, classes: int = CLASSES) -> Images:
    """Random pixels and labels."""
    channels, height, width = shape
    generator = seeded(seed)
    return Images(
        pixels=torch.randint(0, 256, (count, height, width, channels), generator=generator, dtype=torch.uint8),
        labels=torch.randint(0, classes, (count,), generator=generator),
        mean=torch.full((channels,), 0.5),
        spread=torch.full((channels,), 0.25),
    )


def random_masks(model: nn.Module, share: float = 0.5, seed: int = 0) -> Tensors:
    """Masks that keep about `share` of every prunable weight."""
    generator = seeded(seed)
    return {
        name: torch.rand(weight.shape, generator=generator) < share for name, weight in prunable_weights(model).items()
    }


def all_ones(model: nn.Module) -> Tensors:
    """Masks that keep everything."""
    return {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in prunable_weights(model).items()}


def order_of(weights: Tensors) -> Tensors:
    """Some order of the weights, as IRP leaves one."""
    return {name: seeded_like(weight) for name, weight in weights.items()}


def seeded_like(weight: torch.Tensor) -> torch.Tensor:
    """float64 random numbers of a weight's shape, the same for every weight of it."""
    return torch.rand(weight.shape, generator=seeded(weight.numel()), dtype=torch.float64)


def first_feature() -> Scorer:
    """A scorer that predicts the rank of a weight's magnitude in its layer."""

    def rank(features: Features) -> Tensors:
        return {name: table[:, 0] for name, table in features.values.items()}

    return Scorer(partial(score_weights, rank, ("magnitude",)))
