"""Paths through masked networks, counted by hand."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from autosparse.core.evidence import Evidence
from autosparse.core.graph.connectivity import effective
from autosparse.core.graph.paths import Paths, trace_paths
from tests.unit.core.conftest import SHAPE, all_ones, evidence_of, random_masks, small


def chain(*widths: int) -> nn.Sequential:
    """Linear layers with rectifiers between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def traced(network: nn.Module, shape: tuple[int, ...], *masks: object) -> Paths:
    """The paths under masks written as lists, one a layer."""
    names = list(all_ones(network))
    given = {name: torch.tensor(mask, dtype=torch.bool) for name, mask in zip(names, masks, strict=True)}
    return trace_paths(evidence_of(network, shape, masks=given or None))


class Doubling(nn.Module):
    """`x + f(x)` repeated, each f a linear layer."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(width, width, bias=False) for _ in range(blocks)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)
        return x


def test_paths_of_a_chain_by_hand() -> None:
    """Weights, nodes and paths of 2-3-2 neurons, where one hidden neuron reads nothing and one is not read."""
    result = traced(chain(2, 3, 2), (2,), [[1, 1], [1, 0], [0, 0]], [[1, 0, 1], [1, 0, 0]])

    # Two inputs meet in the first hidden neuron, which both outputs read.
    assert {"0.weight": 2, "2.weight": 2} == result.weights
    assert {"0.weight": 1, "2.weight": 2} == result.nodes
    assert {"0.weight": 3, "2.weight": 2} == result.channels
    assert math.log(4) == pytest.approx(result.all)
    assert {"0.weight": math.log(4), "2.weight": math.log(4)} == pytest.approx(result.through)


def test_no_path() -> None:
    """A network that is cut has no effective weight, no node and minus infinity for the logarithm of no path."""
    result = traced(chain(2, 2, 2), (2,), [[1, 1], [0, 0]], [[0, 1], [0, 1]])

    assert {0} == {*result.weights.values(), *result.nodes.values()}
    assert {-math.inf} == {result.all, *result.through.values()}


def test_residual_paths_are_counted() -> None:
    """Around a block or through it: (1 + 3)^2 paths for every input, three quarters of them through a block."""
    traced = trace_paths(evidence_of(Doubling(3, 2), (3,)))

    assert math.log(3 * 16) == pytest.approx(traced.all)
    assert [math.log(3 * 12)] * 2 == pytest.approx(list(traced.through.values()))


def test_shared_weights_count_every_use() -> None:
    """A weight used twice makes paths at both places."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.layer(torch.relu(self.layer(x)))
            return output

    traced = trace_paths(evidence_of(Twice(), (2,)))

    assert math.log(8) == pytest.approx(traced.all)
    assert math.log(16) == pytest.approx(traced.through["layer.weight"])  # each of eight passes it twice


def test_convolutions_pooling_and_scales() -> None:
    """Every place of a kernel is a path; pools pass their mean, BatchNorm and biases nothing of their own."""
    network = nn.Sequential(
        nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2, eps=0), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 1)
    )

    traced = trace_paths(evidence_of(network.eval(), (1, 3, 3)))

    # Four of nine pixels for each of 2 x 2 places and 2 channels; the mean over the places.
    assert math.log(8) == pytest.approx(traced.all)
    assert {"0.weight": 2, "5.weight": 1} == traced.nodes


@pytest.mark.parametrize(
    "between",
    [
        nn.GroupNorm(2, 4), nn.InstanceNorm1d(4), nn.LayerNorm([4, 2]), nn.RMSNorm([4, 2]), nn.ReLU6(), nn.Hardtanh(),
        nn.Tanh(), nn.GELU(), nn.SiLU(), nn.Hardswish(), nn.Mish(), nn.ELU(inplace=True), nn.Softplus(), nn.LeakyReLU(),
    ],
    ids=lambda module: type(module).__name__,
)  # fmt: skip
def test_what_stands_between_layers_changes_no_path(between: nn.Module) -> None:
    """Normalization subtracts no mean from paths, and no activation saturates: 10 by 4 by 2 channels of two places."""
    network = nn.Sequential(nn.Conv1d(10, 4, 1), between, nn.Conv1d(4, 2, 1), nn.Flatten())
    masks = all_ones(network)

    dense = trace_paths(evidence_of(network, (10, 2)))
    masks["2.weight"][:, 1:] = False
    cut = trace_paths(evidence_of(network, (10, 2), masks=masks))

    assert {"0.weight": 40, "2.weight": 8} == dense.weights
    assert math.log(160) == pytest.approx(dense.all)
    assert {"0.weight": 10, "2.weight": 2} == cut.weights
    assert math.log(40) == pytest.approx(cut.all)


def test_groups_and_transposed_convolutions() -> None:
    """Nodes are output channels, in whatever order a weight holds them."""
    network = nn.Sequential(nn.Conv2d(4, 4, 1, groups=4, bias=False), nn.ConvTranspose2d(4, 6, 2, groups=2, bias=False))
    masks = all_ones(network)
    masks["1.weight"][:, 1] = False  # the second output of either group
    masks["0.weight"][3] = False

    traced = trace_paths(evidence_of(network, (4, 1, 1), masks=masks))

    assert {"0.weight": 3, "1.weight": 4} == traced.nodes
    assert {"0.weight": 4, "1.weight": 6} == traced.channels
    assert {"0.weight": 3, "1.weight": 3 * 2 * 4} == traced.weights


@pytest.mark.parametrize("blocks", [40, 400])
def test_numbers_beyond_floating_point(blocks: int) -> None:
    """A thousand to the power of 400 paths do not overflow, in a chain or with shortcuts."""
    straight = trace_paths(evidence_of(chain(*[1000] + [30] * blocks), (1000,)))
    residual = trace_paths(evidence_of(Doubling(30, blocks), (30,)))

    assert math.log(1000) + blocks * math.log(30) == pytest.approx(straight.all, rel=1e-9)
    assert math.log(30) + blocks * math.log(31) == pytest.approx(residual.all, rel=1e-9)


def test_effective_weights_are_those_of_masks() -> None:
    """The count of effective weights is that of `masks.effective`, and no layer has more nodes than weights."""
    given: Evidence = evidence_of(small(), SHAPE)
    for share in (0.1, 0.3, 0.6):
        thinned = replace(given, masks=random_masks(small(), share=share))
        traced = trace_paths(thinned)

        assert effective(thinned) == traced.weights
        assert all(traced.nodes[name] <= count for name, count in traced.weights.items())
        assert (traced.all == -math.inf) == (not any(traced.weights.values()))
