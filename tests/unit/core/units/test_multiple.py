"""Numbers of channels that processors compute in blocks."""

from __future__ import annotations

import itertools
import warnings

import pytest
import torch
from torch import nn

from autosparse import prune
from autosparse.errors import AutosparseError


def perceptron(*widths: int) -> nn.Module:
    """Linear layers of these widths between 8 inputs and 4 outputs."""
    sizes = [8, *widths, 4]
    layers = [nn.Linear(one, other) for one, other in itertools.pairwise(sizes)]
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())))


def counts(multiple: int | str, macs: float = 0.37) -> list[int]:
    """Channels that stay of 256, 72, 20 and 6."""
    unit = {"name": "channel", "multiple": multiple}
    method = {"criterion": "random", "allocation": "uniform"}
    torch.manual_seed(0)
    batches = [(torch.rand(16, 8), torch.arange(16) % 4)]
    masks = prune(perceptron(256, 72, 20, 6), batches, macs=macs, method=method, unit=unit)
    return [len(kept) for kept in masks.channels.values()]


def test_by_default_wide_groups_keep_blocks() -> None:
    """Multiples of 16, 8, 2 and 1: a power of two, at most an eighth of the channels."""
    assert [0, 0, 0, 0] == [count % step for count, step in zip(counts("auto"), (16, 8, 2, 1), strict=True)]
    assert counts("auto") != counts(1)


def test_a_fixed_multiple_leaves_few_channels_whole() -> None:
    """Groups with fewer channels than one block keep all of them."""
    assert [0, 0, 0] == [count % 16 for count in counts(16)[:3]]
    assert 6 == counts(16)[3]


def test_a_limit_below_one_block_names_the_way_out() -> None:
    """Only where any number of channels could fit."""
    with pytest.raises(AutosparseError, match="multiply-adds; `multiple: 1` of the unit allows fewer"):
        counts(16, macs=0.03)
    with pytest.raises(AutosparseError, match=r"keeps take 278 multiply-adds$"):
        counts("auto", macs=0.0005)


def test_channels_without_a_method_are_scored_by_snip() -> None:
    """No scorer learned from channels."""
    batches = [(torch.rand(16, 8), torch.arange(16) % 4)]
    torch.manual_seed(0)
    network = perceptron(64, 32)
    chosen, expected = (
        prune(network, batches, macs=0.4, unit="channel", method=method).channels for method in (None, "snip")
    )

    assert expected == chosen
    assert prune(network, batches, macs=0.4, unit="channel", method="magnitude").channels != chosen


def test_fixed_shares_of_groups() -> None:
    """An allocation that cannot keep one channel alone."""
    method = {"criterion": "magnitude", "allocation": {"name": "fixed", "layers": {"0": 0.5}}}
    batches = [(torch.rand(16, 8), torch.arange(16) % 4)]
    masks = prune(perceptron(64, 32), batches, macs=0.4, method=method, unit={"name": "channel", "multiple": 1})

    assert 32 == len(masks.channels["0"])


def test_layers_without_masks_are_a_warning() -> None:
    """A share of the multiply-adds counts prunable layers."""
    network = perceptron(64, 64, 64)
    for parameter in network.get_submodule("4").parameters():
        parameter.requires_grad = False
    batches = [(torch.rand(16, 8), torch.arange(16) % 4)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prune(network, batches, macs=0.4, method="magnitude", unit="channel")

    assert any("not prunable take 46% of the network's multiply-adds" in str(warning.message) for warning in caught)
