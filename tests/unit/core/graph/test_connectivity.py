"""Disconnected parts are detected before any training, in networks of all kinds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from autosparse.core.graph.connectivity import describe_network, examine
from autosparse.core.graph.paths import effective_weights
from autosparse.core.weights import Tensors
from autosparse.models import models
from tests.unit.core.conftest import all_ones, evidence_of, random_masks

SHAPE = (3, 8, 8)


def network_of(name: str, width: int = 4, seed: int = 0) -> nn.Module:
    """A small registered network."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network: nn.Module = models[name].function(SHAPE, 10, width=width)
    return network


def findings(network: nn.Module, masks: Tensors, shape: tuple[int, ...] = SHAPE) -> list[tuple[str, ...]]:
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
    """Each block's convolutions are one branch, next to nothing or to a shortcut that is named as such."""
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
    ] == findings(network, masks)


def test_a_shortcut_without_effect() -> None:
    """A projection that keeps weights, all of them from a channel that nothing fills, is dead."""
    network = network_of("resnet8")
    masks = all_ones(network)
    masks["stages.1.0.shortcut.0.weight"][:, 1:] = False
    for name in ("stem.weight", "stages.0.0.conv2.weight"):
        masks[name][0] = False

    assert [("shortcut", "stages.1.0.shortcut.0")] == findings(network, masks)


def test_a_stage_that_is_cut() -> None:
    """Both ways of a block cut leave no output that depends on the input, and the place is named."""
    network = network_of("resnet8")
    masks = all_ones(network)
    masks["stages.1.0.shortcut.0.weight"][:] = False
    masks["stages.1.0.conv1.weight"][1:] = False
    masks["stages.1.0.conv2.weight"][:, 0] = False

    kinds = findings(network, masks)

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

    assert [("network", *(name.removesuffix(".weight") for name in masks)), ("empty", second[:-7])] == findings(
        network, masks
    )

    masks = all_ones(network)
    masks[first][1:], masks[second][:, 0] = False, False

    assert ["network"] == [kind for kind, *_ in findings(network, masks)]


def test_a_dead_layer_beside_others() -> None:
    """Concatenated branches, products and outputs: weights on no path are reported by the part they belong to."""

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
    assert [] == findings(network, masks, (4,))

    masks["head.weight"][:, 3:] = False
    masks["head.weight"][1] = False

    assert [("outputs", "head"), ("branch", "two")] == findings(network, masks, (4,))


class Residual(nn.Module):
    """A block around which its input passes as it is, and one around which it passes through a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(2, 3), nn.Linear(3, 2)
        self.first, self.second = nn.Linear(3, 2), nn.Linear(2, 3)
        self.third, self.fourth, self.shortcut = nn.Linear(3, 2), nn.Linear(2, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = (x + self.second(self.first(x).relu())).relu()
        x = (self.fourth(self.third(x).relu()) + self.shortcut(x)).relu()
        output: Tensor = self.head(x)
        return output


def joined(masks: Tensors, *chain: str, start: Tensor) -> Tensor:
    """Return the ends of a chain of layers that the channels at its start reach; backwards if requested."""
    for name in chain:
        mask = masks[name.strip("<") + ".weight"]
        start = (mask.T if name.startswith("<") else mask)[:, start].any(dim=1)
    return start


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), share=st.floats(0.1, 0.7))
def test_residual_blocks_are_cut_where_reachability_says_so(seed: int, share: float) -> None:
    """Reachability of channels from the input and from the output gives the same weights and the same findings."""
    network = Residual()
    masks = random_masks(network, share=share, seed=seed)
    full = torch.ones(3, dtype=torch.bool)
    stem = joined(masks, "stem", start=full[:2])
    one = stem | joined(masks, "first", "second", start=stem)
    two = joined(masks, "shortcut", start=one) | joined(masks, "third", "fourth", start=one)
    last = joined(masks, "<head", start=full[:2])
    middle = joined(masks, "<shortcut", start=last) | joined(masks, "<fourth", "<third", start=last)
    begin = middle | joined(masks, "<second", "<first", start=middle)
    ends = {
        "stem": (full[:2], begin),
        "first": (stem, joined(masks, "<second", start=middle)),
        "second": (joined(masks, "first", start=stem), middle),
        "third": (one, joined(masks, "<fourth", start=last)),
        "fourth": (joined(masks, "third", start=one), last),
        "shortcut": (one, last),
        "head": (two, full[:2]),
    }
    on_path = {
        name: masks[f"{name}.weight"] & source[None, :] & target[:, None] for name, (source, target) in ends.items()
    }
    cut = {name for name, part in on_path.items() if not bool(part.any())}
    expected: set[tuple[str, ...]] = {("empty", name) for name in ends if not bool(masks[f"{name}.weight"].any())}
    reported = set(cut)
    if len(cut) == len(ends):
        stops = not bool((joined(masks, "shortcut", start=full) | joined(masks, "third", "fourth", start=full)).any())
        expected |= {("stage", "third", "fourth", "shortcut")} if stops else set()
    else:
        branches = [("branch", "first", "second"), ("branch", "third", "fourth"), ("shortcut", "shortcut")]
        expected |= {branch for branch in branches if cut.issuperset(branch[1:])}
        expected |= {("outputs", "head")} if not bool(on_path["head"].any(dim=1).all()) else set()
        reported = {name for kind, *names in expected for name in names if kind in ("branch", "shortcut")}
    expected |= {("dead", name) for name in cut - reported if bool(masks[f"{name}.weight"].any())}

    evidence = evidence_of(network, (2,), masks=masks)
    actual = findings(network, masks, (2,))

    assert all(torch.equal(on_path[name[:-7]], part) for name, part in effective_weights(evidence).items())
    assert expected == {finding for finding in actual if finding[0] != "network"}
    assert (len(cut) == len(ends)) == any(finding[0] == "network" for finding in actual)


def test_magnitude_collapses_a_residual_network() -> None:
    """Globally by magnitude ResNet-18 is cut at 95 %: the wider a layer, the smaller its weights begin."""
    network = network_of("resnet18", width=16)
    evidence = evidence_of(network, SHAPE)
    weights = evidence.weights
    flat = torch.cat([weight.abs().flatten() for weight in weights.values()])
    threshold = flat.topk(round(0.05 * len(flat))).values.min()

    findings = examine(evidence.masked({name: weight.abs() >= threshold for name, weight in weights.items()}))

    assert any(finding.kind in ("network", "branch", "shortcut") for finding in findings)
