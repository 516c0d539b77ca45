"""Measurement of a latency table: the dense network and narrower copies of it in onnxruntime, profiled and timed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from autosparse.core.graph.coupling import ChannelGroup, Coupling
from autosparse.core.graph.shrink import same_outputs
from autosparse.core.graph.slicing import Slicing, sliced, slicing_of
from autosparse.core.graph.trial import find_groups
from autosparse.core.units.latency import LatencyTable, Sample, fit
from autosparse.core.weights import Tensors, describe_layers, prunable_weights, state_of
from autosparse.exporters import Model, exporters
from autosparse.exporters.onnx_profile import Timed, by_layer, narrower
from autosparse.exporters.shrunk import ONNX
from autosparse.lazy_torch import torch

_WIDTHS = (0.75, 0.5, 0.25, 0.1)
"""Shares of the channels of every group in the narrower copies"""
_ODD = (0.9, 0.6, 0.35, 0.15)
"""The same for copies with odd numbers of channels, which onnxruntime computes without blocks"""
_ALIGNED = 4  # channels of a blocked convolution are a multiple of it
COPIES = 1 + len(_WIDTHS) + len(_ODD)
TIMED, PROFILED = 8.0, 1.0
"""Seconds of the timings of all copies together, and of the profile of one"""
_FEWEST, _MOST = 3, 25  # rounds of timings


@dataclass(frozen=True)
class _Copy:
    """Narrower copy of a network in onnxruntime."""

    content: bytes
    weights: Tensors
    timed: Timed


def measure_table(
    network: torch.nn.Module, shape: Sequence[int], *, batch: int, threads: int
) -> tuple[LatencyTable, float]:
    """Measure a network in evaluation mode and narrower copies of it.

    Args:
        network: Dense network on the CPU.
        shape: Shape of one image, (channels, height, width).
        batch: Number of images of a call.
        threads: Threads of onnxruntime.

    Returns:
        Seconds per layer and width, whose sums are the measured latencies; and the dense network's latency in seconds.

    Raises:
        ValueError: If onnxruntime does not run it, or it has no channels that may leave.
    """
    example = torch.zeros(2, *shape)
    coupling = find_groups(network, example)
    weights = prunable_weights(network)
    groups = tuple(group for group in coupling.groups if any(part.tensor in weights for part in group.slices))
    if not groups:
        why = next(iter(coupling.whole.values()), "")
        raise ValueError(f"it has no channels that may leave{f': {why}' if why else ''}")
    images = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
    block = channel_block()
    copies = [*_copies(network, replace(coupling, groups=groups), images, threads, block)]
    medians = latencies([copy.timed for copy in copies])
    samples = [_sample(copy, latency) for copy, latency in zip(copies, medians, strict=True)]
    positions = {layer.name: layer.positions for layer in describe_layers(network, example[:1])}
    return fit(samples, positions, block), medians[0]


def channel_block() -> int:
    """Return the number of channels that onnxruntime computes together on this processor."""
    return 16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8


def _copies(
    network: torch.nn.Module, coupling: Coupling, images: torch.Tensor, threads: int, block: int
) -> Iterator[_Copy]:
    dense = exported(network, images.shape[1:])
    yield _Copy(dense, prunable_weights(network), Timed(dense, images, threads))
    convolves = any(weight.ndim == 4 for weight in prunable_weights(network).values())
    for share, odd in ((share, odd) for odd, shares in ((False, _WIDTHS), (True, _ODD)) for share in shares):
        if odd and not convolves:
            continue
        flags = {group.name: _first(group, share, odd=odd, block=block) for group in coupling.groups}
        slicing = slicing_of(network, coupling.groups, flags)
        smaller = sliced(network, slicing)
        content, timed = opened(dense, slicing, smaller, images, threads)
        yield _Copy(content, prunable_weights(smaller), timed)


def _first(group: ChannelGroup, share: float, *, odd: bool, block: int) -> torch.Tensor:
    # The first channels: their choice changes no time.
    width = min(part.index.shape[1] for part in group.slices)
    channels, step = group.channels, block if group.channels * width >= 4 * block else _ALIGNED
    step = max(1, step // math.gcd(step, width))
    keep = round(share * channels)
    keep = max(1, keep - (keep % 2 == 0)) if odd else max(min(step, channels), keep // step * step)
    return torch.arange(channels) < keep


def opened(
    dense: bytes, slicing: Slicing, smaller: torch.nn.Module, images: torch.Tensor, threads: int
) -> tuple[bytes, Timed]:
    """Return a narrower copy in onnxruntime, with its file: the dense one, sliced, where that gives equal outputs."""
    # Constants of its graph can depend on widths: then the copy is exported, which takes seconds.
    content = narrower(dense, slicing)
    try:
        timed = Timed(content, images, threads)
        with torch.no_grad():
            if same_outputs(smaller(images[:1]), timed.run(images[:1])):
                return content, timed
    except ValueError:
        pass
    content = exported(smaller, images.shape[1:])
    return content, Timed(content, images, threads)


def exported(network: torch.nn.Module, shape: Sequence[int]) -> bytes:
    """Return the ONNX file of a network, as its emission writes it."""
    return exporters["onnx"].function(Model(state_of(network), {}, lambda: network, tuple(shape)), shrink=False)[ONNX]


def latencies(models: Sequence[Timed]) -> list[float]:
    """Return the median seconds of a call of each model, in interleaved rounds: a load of the machine meets all."""
    seconds: list[list[float]] = [[] for _ in models]
    begin = time.perf_counter()
    for number in range(_MOST):
        if number >= _FEWEST and time.perf_counter() - begin > TIMED:
            break
        for model, durations in zip(models, seconds, strict=True):
            model()  # brings its memory into the caches
            start = time.perf_counter()
            model()
            durations.append(time.perf_counter() - start)
    return [median(durations) for durations in seconds]


def _sample(copy: _Copy, latency: float) -> Sample:
    # The sum over all nodes is the latency measured without a profile.
    nodes = copy.timed.profile(PROFILED)
    total = sum(nodes.values())
    layers = by_layer(copy.content, nodes, copy.weights)
    scale = latency / total if total else 0.0
    shapes = {name: tuple(weight.shape) for name, weight in copy.weights.items()}
    of_layers: Mapping[str, float] = {name: seconds * scale for name, seconds in layers.items()}
    return Sample(shapes, of_layers, max(0.0, latency - sum(of_layers.values())))
