"""The trial of coupled channels: what only training runs, matrices without masks, tiny outputs, narrow shortcuts."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import relu

from autosparse import Masks, prune
from autosparse.core.graph.trial import find_groups
from autosparse.core.torch_compat.narrow_stride_fix import Conv2d


class Matrix(nn.Module):
    """A parameter of the network itself reads channels that have a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(16, 32), nn.Linear(32, 32)
        self.head = nn.Parameter(torch.randn(32, 4))
        nn.init.normal_(self.last.bias)

    def forward(self, x: Any) -> Any:
        return relu(self.last(relu(self.first(x)))) @ self.head


class Auxiliary(nn.Module):
    """A second output that only training computes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(16, 32), nn.Linear(32, 32)
        self.aux, self.head = nn.Linear(32, 4), nn.Linear(32, 4)

    def forward(self, x: Any) -> Any:
        x = relu(self.first(x))
        y = self.head(relu(self.last(x)))
        return y + self.aux(x) if self.training else y


class Tiny(nn.Module):
    """Code that reads the number of channels, and outputs of about 1e-5."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.head = nn.Linear(16, 32), nn.Linear(32, 32), nn.Linear(32, 4)

    def forward(self, x: Any) -> Any:
        x = relu(self.first(x))
        return 1e-4 * self.head(relu(self.last(x) / math.sqrt(x.shape[1])))


CASES: dict[str, tuple[type[nn.Module], str, str]] = {
    "a matrix without a mask": (Matrix, "last.weight", "`head` reads them and is no prunable weight"),
    "training alone": (Auxiliary, "first.weight", "training computes them by code that evaluation skips"),
    "tiny outputs": (Tiny, "first.weight", "the code of the network fixes their number"),
}


@pytest.mark.parametrize("case", CASES)
def test_channels_stay_where_the_smaller_network_would_differ(case: str) -> None:
    """With the reason; the other channels leave, and the smaller network equals the masked one and trains."""
    build, whole, reason = CASES[case]
    torch.manual_seed(0)
    network = build()
    batches = [(torch.randn(8, 16), torch.arange(8) % 4)]
    assert reason == find_groups(network.eval(), batches[0][0]).whole[whole]
    with pytest.warns(UserWarning, match="stay whole"):
        masks = prune(network, batches, macs=0.6, method="magnitude", unit="channel")
    masked = copy.deepcopy(network).eval()
    Masks(masks).apply(masked)
    smaller = Masks(masks).shrink(network)  # a copy keeps the channels

    assert masks.channels
    with torch.no_grad():
        expected, actual = masked(batches[0][0]), smaller.eval()(batches[0][0])
    assert 1e-5 * float(expected.abs().max()) >= float((expected - actual).abs().max())
    smaller.train()(batches[0][0]).sum().backward()


@pytest.mark.parametrize("slopes", [1, 16])
def test_a_prelu_after_a_convolution(slopes: int) -> None:
    """One slope for all channels, or one for each, along the dimension of channels."""
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.PReLU(slopes), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)
    )
    (group,) = find_groups(network.eval(), torch.rand(2, 3, 6, 6)).groups

    assert 16 == group.channels
    assert (slopes > 1) == ("1.weight" in {part.tensor for part in group.slices})


def test_an_unknown_use_of_an_operation_keeps_channels() -> None:
    """A rule that does not expect it never ends the reading."""

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(8, 16), nn.Linear(16, 4)

        def forward(self, x: Any) -> Any:
            return self.head(torch.einsum("...i,...i->...i", self.first(x), self.first(x)))

    assert not find_groups(Odd().eval(), torch.rand(2, 8)).groups


def test_narrow_strided_convolutions_of_a_smaller_network_are_safe() -> None:
    """Pruning leaves fewer input channels than torch's kernel can train."""

    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.down = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, 1, stride=2)
            self.head = nn.Linear(32, 4)

        def forward(self, x: Any) -> Any:
            return self.head(relu(self.down(relu(self.first(x)))).mean((2, 3)))

    batches = [(torch.rand(4, 3, 8, 8), torch.arange(4))]
    masks = prune(Shortcut(), batches, macs=0.2, method="magnitude", unit="channel")
    down: Any = masks.shrink().get_submodule("down")

    assert 16 > down.in_channels
    assert isinstance(down, Conv2d)
