"""Multiply-adds by hand."""

from __future__ import annotations

import torch
from torch import nn

from autosparse.core.allocation import macs
from autosparse.core.weights import describe_layers

LAYERS = describe_layers(
    nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Flatten(), nn.Linear(3 * 16, 5)), torch.zeros(1, 2, 4, 4)
)


def test_dense_network() -> None:
    """Each of 54 kernel weights is used at 16 positions, each of 240 linear ones once."""
    assert 54 * 16 + 240 == macs(LAYERS)


def test_sparse_network() -> None:
    """Only kept weights cost, each as often as it is used."""
    assert 10 * 16 + 7 == macs(LAYERS, {"0.weight": 10, "2.weight": 7})
    assert 0 == macs(LAYERS, {"0.weight": 0, "2.weight": 0})
    assert macs(LAYERS) == macs(LAYERS, {layer.name: layer.size for layer in LAYERS})
