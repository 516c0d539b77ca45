"""What a network costs: multiply-adds (MACs) and parameters, dense and sparse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autosparse.core.weights import Layer


def macs(layers: Sequence[Layer], kept: Mapping[str, int] | None = None) -> int:
    """Multiply-adds for one example through the prunable layers, dense or with `kept` weights a layer."""
    return sum(layer.positions * (layer.size if kept is None else kept[layer.name]) for layer in layers)
