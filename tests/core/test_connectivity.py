"""What masks cut is found before any training, in networks of every make."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autosparse.core.connectivity import describe_network, examine
from autosparse.core.weights import Tensors
from autosparse.models import models
from tests.core.conftest import all_ones, evidence_of

SHAPE = (3, 8, 8)


def network_of(name: str, width: int = 4, seed: int = 0) -> nn.Module:
    """A small registered network."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network: nn.Module = models[name].function(SHAPE, 10, width=width)
    return network


def found(network: nn.Module, masks: Tensors, shape: tuple[int, ...] = SHAPE) -> list[tuple[str, ...]]:
    """Kinds and layers of the findings, without `.weight`."""
    findings = examine(evidence_of(network, shape, masks=masks))
    return [(finding.kind, *(name.removesuffix(".weight") for name in finding.layers)) for finding in findings]


@pytest.mark.parametrize("name", models.names)
def test_nothing_is_found_in_dense_networks(name: str) -> None:
    """Whatever a network is made of, with all its weights nothing of it is cut."""
    options = {"width": 4} if "width" in models[name].options else {}
    network = models[name].function((1, 32, 32), 10, **options)

    assert () == examine(evidence_of(network, (1, 32, 32)))


def test_joins_of_a_residual_network() -> None:
    """Each block's convolutions are one branch, beside nothing or beside a shortcut that is named as such."""
    network = describe_network(evidence_of(network_of("resnet8"), SHAPE))

    assert "head.weight" == network.last
    assert [2, 3, 3] == [len(join.layers) for join in network.joins]
    assert [False, True, True] == [all(join.branches) for join in network.joins]
    shortcuts = [branch for join in network.joins for branch in join.branches if branch and join.is_shortcut(branch)]
    assert [("stages.1.0.shortcut.0.weight",), ("stages.2.0.shortcut.0.weight",)] == shortcuts


def test_an_emptied_branch() -> None:
    """One empty convolution cuts its branch; the other layer of it keeps weights to no effect."""
    network = network_of("resnet8")
    masks = all_ones(network)
    masks["stages.0.0.conv2.weight"][:] = False

    assert [
        ("branch", "stages.0.0.conv1", "stages.0.0.conv2"),
        ("empty", "stages.0.0.conv2"),
    ] == found(network, masks)


def test_a_shortcut_without_effect() -> None:
    """A projection that keeps weights, all of them from a channel that nothing fills, is dead."""
    network = network_of("resnet8")
    masks = all_ones(network)
    masks["stages.1.0.shortcut.0.weight"][:, 1:] = False
    for name in ("stem.weight", "stages.0.0.conv2.weight"):
        masks[name][0] = False

    assert [("shortcut", "stages.1.0.shortcut.0")] == found(network, masks)


def test_a_stage_that_is_cut() -> None:
    """Both ways of a block cut leave no output that depends on the input, and the place is named."""
    network = network_of("resnet8")
    masks = all_ones(network)
    masks["stages.1.0.shortcut.0.weight"][:] = False
    masks["stages.1.0.conv1.weight"][1:] = False
    masks["stages.1.0.conv2.weight"][:, 0] = False

    kinds = found(network, masks)

    assert ("network", "stem") == kinds[0][:2]
    assert [
        ("stage", "stages.1.0.conv1", "stages.1.0.conv2", "stages.1.0.shortcut.0"),
        ("empty", "stages.1.0.shortcut.0"),
    ] == kinds[1:]


def test_chains() -> None:
    """In a network without branches an emptied layer, or two that do not meet, cut everything."""
    network = network_of("vgg11")
    masks = all_ones(network)
    first, second = list(masks)[1:3]
    masks[second][:] = False

    assert [("network", *(name.removesuffix(".weight") for name in masks)), ("empty", second[:-7])] == found(
        network, masks
    )

    masks = all_ones(network)
    masks[first][1:], masks[second][:, 0] = False, False

    assert ["network"] == [kind for kind, *_ in found(network, masks)]


def test_a_dead_layer_beside_others() -> None:
    """Concatenated branches, products and outputs: what is not on a path is found, by what it is part of."""

    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.gate = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(4, 6)
            self.head = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.cat([self.one(x), self.two(x)], dim=1) * torch.sigmoid(self.gate(x))
            output: Tensor = self.head(y)
            return output

    network = Joined()
    masks = all_ones(network)
    assert [] == found(network, masks, (4,))

    masks["head.weight"][:, 3:] = False
    masks["head.weight"][1] = False

    assert [("outputs", "head"), ("branch", "two")] == found(network, masks, (4,))


def test_magnitude_collapses_a_residual_network() -> None:
    """Globally by magnitude ResNet-18 is cut at 95 %: the wider a layer, the smaller its weights begin."""
    network = network_of("resnet18", width=16)
    evidence = evidence_of(network, SHAPE)
    weights = evidence.weights
    flat = torch.cat([weight.abs().flatten() for weight in weights.values()])
    threshold = flat.topk(round(0.05 * len(flat))).values.min()

    findings = examine(evidence.masked({name: weight.abs() >= threshold for name, weight in weights.items()}))

    assert any(finding.kind in ("network", "branch", "shortcut") for finding in findings)
