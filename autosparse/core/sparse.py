"""Layers that compute with the weights that are left alone, where that is faster on the machine at hand."""

from __future__ import annotations

import math
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from autosparse.lazy import torch

Choices: TypeAlias = "Mapping[str, Mapping[str, str]]"
"""layer -> images at once -> `dense` or `sparse`"""
DENSE, SPARSE = "dense", "sparse"
_GAIN = 0.9  # of the dense time: more is what measuring again gives
_NEAR = 1024  # places of a convolution that are computed at once
_REPEATS, _MOMENT = 7, 0.3  # runs that a time is the median of, and seconds that they may take


def choose_ways(network: torch.nn.Module, batches: Sequence[torch.Tensor]) -> dict[str, dict[str, str]]:
    """What is faster for each layer of a network in evaluation mode, measured here, in as many threads as torch has.

    `batches` are of inputs, each of another number of images. Layers that are dense throughout are left out.
    """
    inputs: dict[str, dict[str, torch.Tensor]] = {name: {} for name, module in network.named_modules() if _can(module)}
    for images in batches:
        for name, seen in _inputs(network, images, inputs).items():
            inputs[name][str(len(images))] = seen
    modules = dict(network.named_modules())
    choices: dict[str, dict[str, str]] = {}
    for name, batch in inputs.items():
        dense, sparse = modules[name], _sparse(modules[name], {})
        ways = {count: _faster(dense, sparse.multiply, given) for count, given in batch.items()}
        if SPARSE in ways.values():
            choices[name] = ways
    return choices


def apply_ways(network: torch.nn.Module, choices: Choices) -> torch.nn.Module:
    """`network` with the layers that are chosen replaced in place. Raises ValueError for layers that it has not."""
    for name, ways in choices.items():
        parent, _, own = name.rpartition(".")
        try:
            holder = network.get_submodule(parent)
            module = holder.get_submodule(own)
        except AttributeError as error:
            raise ValueError(f"there is no layer {name}") from error
        if not name or not _can(module):
            raise ValueError(f"layer {name} cannot be computed otherwise")
        setattr(holder, own, _sparse(module, ways))
    return network


def _can(module: torch.nn.Module) -> bool:
    if type(module) is torch.nn.Linear:
        return True
    # Subclasses compute in ways of their own.
    return (
        type(module) is torch.nn.Conv2d
        and module.groups == 1
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


def _inputs(network: torch.nn.Module, images: torch.Tensor, names: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        module.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0].detach()}))
        for name, module in network.named_modules()
        if name in names
    ]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _faster(dense: Callable[..., Any], sparse: Callable[..., Any], batch: torch.Tensor) -> str:
    times: list[list[float]] = [[], []]
    begin = time.perf_counter()
    with torch.no_grad():
        while len(times[1]) <= _REPEATS and (len(times[1]) < 3 or time.perf_counter() - begin < _MOMENT):
            for place, way in enumerate((dense, sparse)):
                start = time.perf_counter()
                way(batch)
                times[place].append(time.perf_counter() - start)
    medians = [statistics.median(found[1:]) for found in times]
    return SPARSE if medians[1] < _GAIN * medians[0] else DENSE


def _sparse(module: torch.nn.Module, ways: Mapping[str, str]) -> Any:
    kind = _kinds()[type(module)]
    return kind(module, ways)


def _kinds() -> dict[type, Any]:
    # Classes need torch, which is imported on first use.
    if _classes:
        return _classes

    class Layer(torch.nn.Module):
        def __init__(self, dense: Any, ways: Mapping[str, str]) -> None:
            super().__init__()
            self.dense, self.ways = dense, {int(count): way for count, way in ways.items()}
            weight = dense.weight.detach()
            rows = weight.unbind(2) if weight.ndim > 2 else (weight,)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that torch's sparse tensors are a beta
                self.rows = [row.contiguous().flatten(1).to_sparse_csr() for row in rows]

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            count = max(1, len(inputs))
            nearest = min(self.ways, key=lambda known: abs(math.log(known / count)))
            result: torch.Tensor = self.multiply(inputs) if self.ways[nearest] == SPARSE else self.dense(inputs)
            return result

        def multiply(self, inputs: torch.Tensor) -> torch.Tensor:
            raise NotImplementedError

    class Linear(Layer):
        def multiply(self, inputs: torch.Tensor) -> torch.Tensor:
            flat = inputs.reshape(-1, inputs.shape[-1])
            # One vector has a routine of its own, twice as fast.
            result: torch.Tensor = self.rows[0] @ flat[0] if len(flat) == 1 else (self.rows[0] @ flat.t()).t()
            result = result.reshape(*inputs.shape[:-1], -1)
            return result if self.dense.bias is None else result + self.dense.bias

    class Conv2d(Layer):
        def multiply(self, inputs: torch.Tensor) -> torch.Tensor:
            result = _convolve(inputs.contiguous(), self.rows, self.dense)
            return result if self.dense.bias is None else result.add_(self.dense.bias.view(-1, 1, 1))

    _classes.update({torch.nn.Linear: Linear, torch.nn.Conv2d: Conv2d})
    return _classes


_classes: dict[type, Any] = {}


def _convolve(inputs: torch.Tensor, rows: Sequence[torch.Tensor], conv: torch.nn.Conv2d) -> torch.Tensor:
    """A convolution by one sparse product for each row of its kernel, `rows`: `[outputs, inputs * columns]`.

    Lines of an image are laid out one after the other, those that a stride takes together, so that what another row of
    the kernel stands on is the same memory further on: it is copied once for each column of the kernel, not for each
    weight as by unfolding.
    """
    assert not isinstance(conv.padding, str)
    (down, across), (step, stride), (high, far) = conv.padding, conv.stride, conv.dilation
    tall, wide = conv.kernel_size
    height, width = inputs.shape[2] + 2 * down, inputs.shape[3] + 2 * across
    lines, places = (height - high * (tall - 1) - 1) // step + 1, (width - far * (wide - 1) - 1) // stride + 1
    padded = torch.nn.functional.pad(inputs, (across, across, down, down + -height % step))
    each = padded.shape[2] // step
    outputs = inputs.new_empty(len(inputs), conv.out_channels, lines, places)
    several = max(1, _NEAR // (lines * places))
    for first in range(0, len(inputs), several):
        images = padded[first : first + several]
        count, (image, channel, line, pixel) = len(images), images.stride()
        laid = images.as_strided(
            (images.shape[1], wide, step, each, count, places),
            (channel, pixel * far, line, line * step, image, pixel * stride),
            images.storage_offset(),
        ).reshape(images.shape[1] * wide, -1)
        result = None
        for number, row in enumerate(rows):
            further, phase = divmod(number * high, step)
            start = (phase * each + further) * count * places
            under = laid[:, start : start + lines * count * places]
            result = row @ under if result is None else torch.addmm(result, row, under)
        assert result is not None
        outputs[first : first + count] = result.view(-1, lines, count, places).permute(2, 0, 1, 3)
    return outputs
