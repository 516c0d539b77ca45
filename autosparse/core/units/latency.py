"""Predicted latency of a network without some of its channels, from a table of measured seconds per layer and width.

A layer's time is a monotone function of its work: multiply-adds for one position of its output. onnxruntime computes a
convolution in blocks of channels if the number of its input channels allows, and else by a matrix product. Each way
has a curve, and blocks count whole. Everything else depends on the size of all layers' outputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from autosparse.core.units.cost import Shapes

Way = Literal["blocked", "plain"]
Amount = Annotated[float, Ge(0), Lt(1e100)]
_ALIGNED = 4  # input channels of a blocked convolution are a multiple of it
_NANO = 1e9


@dataclass(frozen=True)
class Curve:
    """Seconds at growing amounts of work."""

    work: list[Amount]
    seconds: list[Amount]

    @classmethod
    def through(cls, points: Sequence[tuple[float, float]]) -> Curve:
        """Return the monotone curve closest to measured points; equal work has the mean of its seconds."""
        at: dict[float, list[float]] = {}
        for work, seconds in points:
            at.setdefault(work, []).append(seconds)
        pools: list[tuple[float, int]] = []  # mean and number: neighbours that fall are pooled
        for work in sorted(at):
            pools.append((sum(at[work]) / len(at[work]), 1))
            while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
                (one, many), (other, more) = pools[-2:]
                pools[-2:] = [((one * many + other * more) / (many + more), many + more)]
        return cls(sorted(at), [mean for mean, number in pools for _ in range(number)])

    def at(self, work: float) -> float:
        """Return the interpolated seconds; in proportion to the work beyond either end."""
        if work <= self.work[0] or work >= self.work[-1]:
            end = 0 if work <= self.work[0] else -1
            return self.seconds[end] * (work / self.work[end] if self.work[end] else 1)
        above = next(number for number, one in enumerate(self.work) if one > work)
        low, high = self.work[above - 1], self.work[above]
        share = (work - low) / (high - low)
        return (1 - share) * self.seconds[above - 1] + share * self.seconds[above]


@dataclass(frozen=True)
class Sample:
    """Measured network: the shapes of its weights, the seconds of every layer, and those of everything else."""

    shapes: Shapes
    layers: Mapping[str, float]
    rest: float


@dataclass(frozen=True)
class LatencyTable:
    """Curves of a network's layers and of everything else on one machine.

    `block` channels are computed together; `positions` maps a layer to those of its output.
    """

    block: Annotated[int, Gt(0), Lt(2**20)]
    positions: dict[str, Annotated[int, Gt(0), Lt(2**63)]]
    layers: dict[str, dict[Way, Curve]]
    rest: dict[Way, Curve]

    @property
    def counted(self) -> str:
        """Name of the unit."""
        return "ns of predicted latency"

    def __call__(self, shapes: Shapes) -> int:
        """Return the predicted latency of a batch in nanoseconds, rounded up."""
        return math.ceil(self.seconds(shapes) * _NANO)

    def seconds(self, shapes: Shapes) -> float:
        """Return the predicted latency of a batch."""
        layers = 0.0
        for name, curves in self.layers.items():
            way, work = work_of(shapes[name], self.block)
            layers += (curves.get(way) or next(iter(curves.values()))).at(work)
        size, plain = _outputs(shapes, self.positions), _plain(shapes, self.block)
        shares: dict[Way, float] = {"blocked": 1 - plain, "plain": plain}
        rest = self.rest.items()
        if len(rest) == 1:
            return layers + sum(curve.at(size) for _, curve in rest)
        return layers + sum(shares[way] * curve.at(size) for way, curve in rest)


def fit(samples: Sequence[Sample], positions: Mapping[str, int], block: int) -> LatencyTable:
    """Return the table of measured networks: the dense one, and narrower ones of both ways to compute."""
    layers: dict[str, dict[Way, list[tuple[float, float]]]] = {}
    rest: dict[Way, list[tuple[float, float]]] = {}
    for sample in samples:
        for name, seconds in sample.layers.items():
            way, work = work_of(sample.shapes[name], block)
            layers.setdefault(name, {}).setdefault(way, []).append((work, seconds))
        way = "plain" if _plain(sample.shapes, block) > 0.5 else "blocked"
        rest.setdefault(way, []).append((_outputs(sample.shapes, positions), sample.rest))
    return LatencyTable(
        block,
        {**positions},
        {name: {way: Curve.through(points) for way, points in ways.items()} for name, ways in layers.items()},
        {way: Curve.through(points) for way, points in rest.items()},
    )


def work_of(shape: Sequence[int], block: int) -> tuple[Way, float]:
    """Return how onnxruntime computes a layer, and its multiply-adds for one position, those of whole blocks."""
    if not _is_convolution(shape):
        return "blocked", float(math.prod(shape))
    outputs, inputs, *kernel = shape
    way: Way = "blocked" if _is_aligned(shape, block) else "plain"
    if way == "plain":
        return way, float(math.prod(shape))
    inside = inputs if inputs < block else _whole(inputs, block)
    return way, float(_whole(outputs, block) * inside * math.prod(kernel))


def _is_convolution(shape: Sequence[int]) -> bool:
    return len(shape) == 4


def _is_aligned(shape: Sequence[int], block: int) -> bool:
    # A depthwise convolution has one input channel for each output, and shares their alignment.
    outputs, inputs = shape[:2]
    return outputs % _ALIGNED == 0 if inputs == 1 else inputs < block or inputs % _ALIGNED == 0


def _whole(channels: int, block: int) -> int:
    return -(-channels // block) * block


def _plain(shapes: Shapes, block: int) -> float:
    convolutions = [shape for shape in shapes.values() if _is_convolution(shape)]
    return sum(not _is_aligned(shape, block) for shape in convolutions) / max(1, len(convolutions))


def _outputs(shapes: Shapes, positions: Mapping[str, int]) -> float:
    return float(sum(positions[name] * shape[0] for name, shape in shapes.items() if name in positions))
