"""Layers as bundles of weights between an input channel and an output channel, whatever their kind."""

from __future__ import annotations

from dataclasses import dataclass

from autosparse.core.evidence import Evidence
from autosparse.lazy import torch


@dataclass(frozen=True)
class Channels:
    """How a weight's dimensions are to be read. A neuron of a linear layer is a channel too."""

    shape: tuple[int, ...]
    groups: int = 1
    transposed: bool = False
    held: tuple[int, ...] = ()
    """the weight's own shape, where it is another"""

    @property
    def outputs(self) -> int:
        return self.shape[1] * self.groups if self.transposed else self.shape[0]

    def spread(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor of the weight's shape as `[groups, outputs, inputs, kernel]`, outputs and inputs of one group."""
        first, second = self.shape[0] // self.groups, self.shape[1]
        parts = tensor.reshape(self.groups, first, second, -1)
        return parts.transpose(1, 2) if self.transposed else parts

    def gather(self, parts: torch.Tensor) -> torch.Tensor:
        """What `spread` gave, in the weight's shape again."""
        return (parts.transpose(1, 2) if self.transposed else parts).reshape(self.held or self.shape)


def channels_of(evidence: Evidence) -> dict[str, Channels]:
    """How the layers of a network connect channels, by the name of their weight."""
    return {
        layer.name: Channels(layer.shape, layer.groups, layer.transposed, tuple(evidence.masks[layer.name].shape))
        for layer in evidence.layers
    }
