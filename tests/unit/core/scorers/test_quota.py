"""Learned layer quotas: known ones where nothing is learned, and what IRP left where something is."""

from __future__ import annotations

import pytest
import torch

from autosparse.core.allocation import Allocation, Counts, erk, global_threshold, igq
from autosparse.core.features import Features, Position, Seen, table_layers
from autosparse.core.scorers import groups_of, scorers
from autosparse.core.selection import keep_top
from autosparse.core.weights import Layer, Tensors
from tests.unit.core.conftest import seeded

SHAPES = ((16, 3, 3, 3), (32, 16, 3, 3), (32, 32, 3, 3), (64, 32, 3, 3), (64, 64, 3, 3), (10, 64))


def network(shapes: tuple[tuple[int, ...], ...] = SHAPES) -> list[Layer]:
    """Layers of a small network."""
    layers = []
    for number, shape in enumerate(shapes):
        kernel = shape[2:]
        area = int(torch.tensor(kernel).prod()) if kernel else 1
        layers.append(Layer(f"{number}.weight", shape, shape[1] * area, shape[0] * area, kernel, 1, 1))
    return layers


def described(layers: list[Layer], seed: int = 0) -> Features:
    """Features of random weights."""
    random = seeded(seed)
    total = sum(layer.size for layer in layers)
    seen = (
        Seen(layer, Position(number, len(layers), total), torch.randn(layer.shape, generator=random))
        for number, layer in enumerate(layers)
    )
    parts = list(table_layers(seen, groups_of("quota", {})))
    return Features(parts[0].columns, {name: values for part in parts for name, values in part.values.items()})


def quotas(state: Tensors, layers: list[Layer], keep: int, seed: int = 5) -> Counts:
    """Return the counts that one threshold over all predicted scores keeps in each layer."""
    scores: Tensors = scorers["quota"].facts["predict"](state, described(layers, seed))
    return global_threshold(scores, layers, keep)


def learn(features: Features, labels: Tensors, **options: float | str) -> Tensors:
    """The state that the scorer learns."""
    state: Tensors = scorers["quota"].function(features, labels, seeded(), **options)
    return state


def survivals(layers: list[Layer], favoured: float) -> Tensors:
    """Ten rounds that each keep 0.7, of late layers `favoured` times as much as of early ones; at random inside."""
    random = seeded(3)
    order = torch.cat([
        torch.rand(layer.size, generator=random) / (favoured if number > 2 else 1.0)
        for number, layer in enumerate(layers)
    ])  # fmt: skip
    position = torch.empty_like(order)
    position[order.argsort()] = torch.linspace(0, 1, len(order) + 1)[:-1]  # 0 survives longest
    shares = torch.stack([(position < 0.7**round_).float() for round_ in range(1, 11)]).mean(dim=0)
    return dict(zip([layer.name for layer in layers], shares.split([layer.size for layer in layers]), strict=True))


def plain(allocation: Allocation, layers: list[Layer], keep: int) -> Counts:
    """The quotas of an allocation that looks at no score."""
    return allocation({layer.name: torch.zeros(layer.shape) for layer in layers}, layers, keep)


@pytest.mark.parametrize("allocation", [igq, erk])
@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.99])
def test_without_strength_quotas_are_known_ones(allocation: Allocation, sparsity: float) -> None:
    """At strength 0 a threshold leaves what the quotas are that were started from, up to a weight for rounding."""
    layers = network()
    start = "igq" if allocation is igq else "erk"
    state = learn(described(layers), survivals(layers, 8.0), strength=0.0, start=start)
    keep = round((1 - sparsity) * sum(layer.size for layer in layers))

    expected, counts = plain(allocation, layers, keep), quotas(state, layers, keep)

    assert all(abs(expected[name] - counts[name]) <= 1 for name in expected)


def test_what_irp_favours_gets_more() -> None:
    """Late layers that survived longer keep more than known quotas give them, in a network of other widths too."""
    layers = network()
    state = learn(described(layers), survivals(layers, 8.0), ridge=0.1)
    wider = network(tuple((2 * shape[0] if shape[0] != 10 else 10, shape[1], *shape[2:]) for shape in SHAPES))
    keep = sum(layer.size for layer in wider) // 20

    known, counts = plain(igq, wider, keep), quotas(state, wider, keep)

    late = [layer.name for layer in wider][3:]
    assert sum(counts[name] for name in late) > 1.05 * sum(known[name] for name in late)


def test_quotas_of_the_network_that_was_pruned() -> None:
    """With little pull the very network gets near what its IRP left, round after round."""
    layers = network()
    labels = survivals(layers, 4.0)
    state = learn(described(layers), labels, ridge=0.01)

    for round_ in (4, 7, 10):
        left = {name: int((share >= round_ / 10 - 1e-6).sum()) for name, share in labels.items()}
        counts = quotas(state, layers, sum(left.values()))
        moved = sum(abs(counts[name] - left[name]) for name in left) / (2 * sum(left.values()))
        assert moved < 0.15


def test_the_pull_is_towards_known_quotas() -> None:
    """The more evidence a departure asks for, the smaller it is."""
    layers = network()
    keep = sum(layer.size for layer in layers) // 20
    known = plain(igq, layers, keep)

    def departure(ridge: float) -> int:
        counts = quotas(learn(described(layers), survivals(layers, 8.0), ridge=ridge), layers, keep)
        return sum(abs(counts[name] - known[name]) for name in known)

    assert departure(3.0) > departure(30.0) > departure(1000.0)
    assert departure(1e6) <= len(layers)


def test_too_few_rounds_teach_nothing() -> None:
    """Of a network that was never pruned below half, nothing is learned."""
    layers = network()
    labels = {layer.name: torch.ones(layer.size) for layer in layers}
    keep = sum(layer.size for layer in layers) // 20

    expected, counts = plain(igq, layers, keep), quotas(learn(described(layers), labels), layers, keep)

    assert all(abs(expected[name] - counts[name]) <= 1 for name in expected)


def test_masks_are_nested() -> None:
    """One threshold at any sparsity: what a higher one keeps, a lower one keeps too, layer by layer."""
    layers = network()
    state = learn(described(layers), survivals(layers, 8.0))
    total = sum(layer.size for layer in layers)
    before = quotas(state, layers, total // 2)

    for keep in (total // 5, total // 20, total // 100):
        counts = quotas(state, layers, keep)
        assert all(counts[name] <= before[name] for name in counts)
        before = counts


def test_quotas_of_a_pruned_network_are_of_all_its_weights() -> None:
    """If a layer has lost weights, a threshold leaves the part of the whole layer."""
    layers = network()
    state = learn(described(layers), survivals(layers, 8.0))
    total = sum(layer.size for layer in layers)
    scores: Tensors = scorers["quota"].facts["predict"](state, described(layers, 5))
    half = global_threshold(scores, layers, total // 2)
    random = seeded(5)
    weights = {layer.name: torch.randn(layer.shape, generator=random) for layer in layers}
    masks = {name: keep_top(weights[name].abs(), half[name]) for name in half}
    seen = (
        Seen(layer, Position(n, len(layers), total), weights[layer.name] * masks[layer.name], mask=masks[layer.name])
        for n, layer in enumerate(layers)
    )
    left: Tensors = {}
    for part in table_layers(seen, groups_of("quota", {})):
        for name, values in scorers["quota"].facts["predict"](state, part).items():
            left[name] = values.masked_fill(~masks[name].flatten(), -torch.inf)

    at_once, later = (global_threshold(result, layers, total // 20) for result in (scores, left))

    assert all(abs(at_once[name] - later[name]) <= 1 for name in at_once)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_features_may_lie_on_a_gpu() -> None:
    """The same is learned and predicted where features and labels lie on a GPU, and scores lie there too."""
    layers = network()
    features, labels = described(layers), survivals(layers, 8.0)
    there = Features(features.columns, {name: values.cuda() for name, values in features.values.items()})

    state = learn(there, {name: values.cuda() for name, values in labels.items()})
    scores: Tensors = scorers["quota"].facts["predict"](state, there)

    expected: Tensors = scorers["quota"].facts["predict"](learn(features, labels), features)
    for name, values in expected.items():
        assert scores[name].device.type == "cuda"
        torch.testing.assert_close(values, scores[name].cpu())
