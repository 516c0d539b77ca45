"""The prunable weights of a network, by name, and what is known of the layers that hold them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from autosparse.lazy import torch

Tensors: TypeAlias = "dict[str, torch.Tensor]"


@dataclass(frozen=True)
class Layer:
    """One layer with a prunable weight, as met in a forward pass.

    `shape` is the weight's; `fan_in` and `fan_out` count the inputs one output reads and the outputs one
    input feeds; `positions` is how often each weight is used for one example, so that the layer's
    multiply-adds (MACs) are `positions` times its kept weights.
    """

    name: str
    shape: tuple[int, ...]
    fan_in: int
    fan_out: int
    kernel: tuple[int, ...]
    stride: int
    positions: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def prunable_weights(model: torch.nn.Module) -> Tensors:
    """Weights of convolutions and linear layers, name -> parameter, in model order, tied ones once."""
    kinds = (torch.nn.Linear, torch.nn.modules.conv._ConvNd)
    weights: Tensors = {}
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        if isinstance(module, kinds) and module.weight.requires_grad and id(module.weight) not in seen:
            seen.add(id(module.weight))
            weights[f"{prefix}.weight" if prefix else "weight"] = module.weight
    return weights


def describe_layers(model: torch.nn.Module, example: torch.Tensor) -> tuple[Layer, ...]:
    """The layers of `prunable_weights`, in model order, measured by one forward pass of one example.

    `example` is an input batch of one, `[1, ...]`. The model is left as it was.
    """
    weights = prunable_weights(model)
    names = {id(weight): name for name, weight in weights.items()}
    positions: dict[str, int] = dict.fromkeys(weights, 0)
    found: dict[str, torch.nn.Module] = {}

    def note(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        name = names[id(module.weight)]
        found[name] = module
        # A weight is used once for every place of the output; of a transposed convolution, of the input.
        places = inputs[0] if getattr(module, "transposed", False) else output
        channels = places.shape[1] if isinstance(module, torch.nn.modules.conv._ConvNd) else places.shape[-1]
        positions[name] += places.numel() // channels

    hooks = [
        module.register_forward_hook(note) for module in model.modules() if id(getattr(module, "weight", None)) in names
    ]
    try:
        with in_mode(model, training=False), torch.no_grad():
            model(example)
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(_layer(name, weight, found.get(name), positions[name]) for name, weight in weights.items())


@contextmanager
def in_mode(model: torch.nn.Module, *, training: bool) -> Iterator[None]:
    """The model in training or evaluation mode; afterwards every module is in the mode it had."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode


def keep_count(total: int, sparsity: float) -> int:
    """How many of `total` weights stay at a sparsity in [0, 1): the one place where it becomes a count."""
    return round((1 - sparsity) * total)


def total_of(tensors: Mapping[str, torch.Tensor]) -> int:
    """How many numbers the tensors hold together."""
    return sum(tensor.numel() for tensor in tensors.values())


def _layer(name: str, weight: torch.Tensor, module: torch.nn.Module | None, positions: int) -> Layer:
    shape = tuple(weight.shape)
    kernel = shape[2:]
    area = math.prod(kernel)
    strides = getattr(module, "stride", (1,))
    # Weights are [outputs, inputs / groups, ...], those of transposed convolutions [inputs, outputs / groups, ...].
    outer, inner = shape[0] // getattr(module, "groups", 1) * area, shape[1] * area
    fan_in, fan_out = (outer, inner) if getattr(module, "transposed", False) else (inner, outer)
    return Layer(
        name=name,
        shape=shape,
        fan_in=fan_in,
        fan_out=fan_out,
        kernel=kernel,
        stride=max(strides) if isinstance(strides, tuple) else int(strides),
        positions=positions,
    )
