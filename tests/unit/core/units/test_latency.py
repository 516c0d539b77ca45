"""Latencies predicted by a made-up table, and masks of channels within them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autosparse.core.allocation import Counts, allocations
from autosparse.core.evidence import Evidence
from autosparse.core.units import Unit, units
from autosparse.core.units.cost import Cost, Shapes, in_macs, in_weights
from autosparse.core.units.latency import Curve, LatencyTable, Sample, fit, work_of
from autosparse.core.weights import describe_layers

BLOCK = 16
POSITIONS = {"a": 100, "b": 25}
# Two convolutions whose blocked time is 1 s for 1,000 multiply-adds of whole blocks, and twice that by products.
DENSE = {"a": (32, 3, 3, 3), "b": (64, 32, 3, 3)}


def sample(shapes: Shapes) -> Sample:
    """A measured network: 1 s for 1,000 multiply-adds, 2 s without blocks, and 1 s for 1,000 outputs."""
    layers = {}
    for name, shape in shapes.items():
        way, work = work_of(shape, BLOCK)
        layers[name] = (1 if way == "blocked" else 2) * work / 1000
    return Sample(shapes, layers, sum(POSITIONS[name] * shape[0] for name, shape in shapes.items()) / 1000)


def table() -> LatencyTable:
    """The table of the dense network, a half and odd ones."""
    networks = [DENSE, {"a": (16, 3, 3, 3), "b": (32, 16, 3, 3)}, {"a": (29, 3, 3, 3), "b": (61, 29, 3, 3)}]
    return fit([sample(shapes) for shapes in networks], POSITIONS, BLOCK)


@pytest.mark.parametrize("shapes", [DENSE, {"a": (16, 3, 3, 3), "b": (32, 16, 3, 3)}])
def test_the_table_returns_what_was_measured(shapes: Shapes) -> None:
    """Layers and the rest add up to the latency of a measured network."""
    measured = sample(shapes)

    assert math.isclose(sum(measured.layers.values()) + measured.rest, table().seconds(shapes))
    assert table()(shapes) == math.ceil(table().seconds(shapes) * 1e9)


def test_layers_of_one_network_may_differ_in_width() -> None:
    """Half of the first layer's outputs: the work of both layers is interpolated."""
    shapes = {"a": (16, 3, 3, 3), "b": (64, 16, 3, 3)}
    measured = sample(shapes)

    assert math.isclose(sum(measured.layers.values()) + measured.rest, table().seconds(shapes))


def test_channels_without_blocks_are_slower() -> None:
    """30 input channels are no multiple of four: fewer than 32, and slower."""
    odd = {"a": (30, 3, 3, 3), "b": (64, 30, 3, 3)}

    assert table().seconds(DENSE) < table().seconds(odd)


@pytest.mark.parametrize(
    ("shape", "way", "work"),
    [
        ((32, 3, 7, 7), "blocked", 32 * 3 * 49),
        ((31, 3, 7, 7), "blocked", 32 * 3 * 49),
        ((64, 20, 3, 3), "blocked", 64 * 32 * 9),
        ((64, 30, 3, 3), "plain", 64 * 30 * 9),
        ((32, 1, 3, 3), "blocked", 32 * 9),
        ((30, 1, 3, 3), "plain", 30 * 9),
        ((10, 300), "blocked", 3000),
    ],
)
def test_the_work_of_a_layer(shape: tuple[int, ...], way: str, work: float) -> None:
    """Whole blocks count for aligned channels; matrix products and linear layers count every channel."""
    assert (way, work) == work_of(shape, BLOCK)


def test_a_curve_is_monotone_and_passes_equal_work_at_its_mean() -> None:
    """Noise that falls is pooled; beyond its ends time is in proportion."""
    curve = Curve.through([(1, 1.0), (2, 4.0), (3, 2.0), (3, 2.0), (4, 8.0)])

    assert [1.0, 3.0, 3.0, 8.0] == curve.seconds
    assert [0.5, 2.0, 3.0, 5.5, 16.0] == [curve.at(work) for work in (0.5, 1.5, 2.5, 3.5, 8)]


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 100)), min_size=1), st.integers(1, 60), st.integers(0, 20))
def test_curves_never_fall(points: list[tuple[int, float]], work: int, more: int) -> None:
    """More work takes no less time."""
    curve = Curve.through([(float(one), seconds) for one, seconds in points])

    assert curve.at(work) <= curve.at(work + more) + 1e-9


def channels(multiple: int = 1) -> tuple[Evidence, Unit]:
    """Channels of two convolutions, the first of which may lose some."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 32, 3),
        torch.nn.ReLU(),
        torch.nn.Conv2d(32, 64, 3),
        torch.nn.Flatten(),
        torch.nn.Linear(576, 5),
    ).eval()
    example = torch.zeros(1, 3, 7, 7)
    random = torch.Generator().manual_seed(0)
    layers = describe_layers(network, example)
    evidence = Evidence.dense(network, layers, lambda count: [], random, lambda: example)
    return evidence, units["channel"].function(evidence, multiple=multiple)


class _Parabola:
    """A cost of the outputs of the first layer: its square."""

    counted = "squares"

    def __call__(self, shapes: Shapes) -> int:
        return int(shapes["0.weight"][0]) ** 2


def test_any_cost_limits_channels_through_one_door() -> None:
    """The most channels within the limit; one more exceeds it. An impossible limit names its unit."""
    evidence, unit = channels()
    scores = {layer.name: torch.rand(layer.shape) + 1 for layer in unit.layers}
    uniform = allocations["uniform"].function

    def kept(cost: Cost, limit: int) -> Counts:
        return unit.limited(uniform, cost)(scores, unit.layers, limit)

    first = next(layer.name for layer in unit.layers)
    assert 10 == kept(_Parabola(), 120)[first]
    with pytest.raises(ValueError, match="the fewest channels that every group keeps take 1 squares"):
        kept(_Parabola(), 0)
    for cost in (in_weights(evidence.layers), in_macs(evidence.layers)):
        dense = cost({name: tuple(weight.shape) for name, weight in evidence.weights.items()})
        counts = kept(cost, dense // 3)
        chosen = {name: torch.arange(len(scores[name])).unsqueeze(1) < count for name, count in counts.items()}
        shapes = {name: weight.shape for name, weight in unit.slicing(chosen).take(evidence.weights).items()}  # type: ignore[union-attr]
        assert cost(shapes) <= dense // 3
        assert cost(shapes) > dense // 5
