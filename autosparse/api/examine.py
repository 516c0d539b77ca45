"""What masks cut in any network, seen on a copy of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autosparse.api.batches import Examples, Signature
from autosparse.api.unwrap import copy_of
from autosparse.core.evidence import Evidence
from autosparse.core.graph.connectivity import Finding, examine
from autosparse.core.layer_kinds import Kind, declare_layers
from autosparse.core.weights import describe_layers, prunable_weights
from autosparse.lazy_torch import torch


def cuts(
    plain: torch.nn.Module, masks: Mapping[str, torch.Tensor], x: Any, declared: Mapping[str, Kind]
) -> tuple[Finding, ...]:
    """The findings about a network under masks; weights without one are kept whole, and `declared` ones are layers'."""
    device = next(iter(plain.parameters())).device
    device = torch.device("cpu") if device.type == "mps" else device  # which lacks float64
    model = declare_layers(copy_of(plain).to(device), declared)
    weights = {name: weight.detach() for name, weight in prunable_weights(model).items()}
    full = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
    examples = Examples([(x, x)], device, Signature(model))
    evidence = Evidence(
        model=model,
        weights=weights,
        masks={name: masks[name].to(device) if name in masks else mask for name, mask in full.items()},
        layers=describe_layers(model),
        draw=examples.draw,
        generator=torch.Generator("cpu"),
        example=examples.example,
    )
    return examine(evidence)
