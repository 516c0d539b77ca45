"""Features of a weight: finite, free of scale, and by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from autosparse.core.criteria import criteria
from autosparse.core.features import (
    Features,
    Position,
    Seen,
    columns_of,
    describe,
    feature_groups,
    needs_of,
    positions_of,
    table_layers,
)
from autosparse.core.weights import Layer, Tensors
from autosparse.models import build_model
from tests.unit.core.conftest import SHAPE, all_ones, batch_of, evidence_of, random_masks, seeded, small

BATCHES = [batch_of(SHAPE, 8)]

LAYERS = evidence_of(small(), SHAPE).layers
POSITION = Position(index=1, layers=3, total=100)
SCALE_FREE = [name for name in feature_groups.names if name != "raw"]


def plain(*shape: int) -> Layer:
    """A linear or convolutional layer of this shape."""
    area = math.prod(shape[2:])
    return Layer("x", shape, shape[1] * area, shape[0] * area, shape[2:], stride=1, positions=1)


def weights_of(network_seed: int = 0) -> tuple[Tensors, Tensors]:
    """Weights and gradient of a small network, none of them zero."""
    evidence = evidence_of(small(network_seed), SHAPE)
    gradient = evidence.gradient(evidence.weights, [batch_of(SHAPE, 64)])
    generator = seeded(9)
    noise = {name: torch.rand(part.shape, generator=generator) + 0.5 for name, part in gradient.items()}
    return evidence.weights, {name: part + noise[name] * part.abs().mean() for name, part in gradient.items()}


def table(weights: Tensors, gradient: Tensors, groups: Sequence[str] = SCALE_FREE) -> Features:
    """Features of the small network's weights, flow being the weights' magnitude."""
    seen = [
        Seen(layer, POSITION, weights[layer.name], gradient[layer.name], weights[layer.name].abs()) for layer in LAYERS
    ]
    parts = list(table_layers(seen, groups))
    return Features(parts[0].columns, {name: values for part in parts for name, values in part.values.items()})


def seen(
    weight: torch.Tensor, gradient: torch.Tensor, layer: Layer | None = None, position: Position = POSITION
) -> Seen:
    """A layer as groups see it, its flow of the gradient's size."""
    return Seen(layer or plain(*weight.shape), position, weight, gradient, gradient.abs().double())


def test_one_row_a_weight_one_name_a_column() -> None:
    """Every layer has a table `[weights, columns]`, with the group of each column named."""
    features = table(*weights_of())

    assert [layer.name for layer in LAYERS] == list(features.values)
    for layer in LAYERS:
        assert (layer.size, len(features.columns)) == features.values[layer.name].shape
        assert torch.float32 == features.values[layer.name].dtype
    assert set(SCALE_FREE) == set(features.columns)
    assert sum(layer.size for layer in LAYERS) == len(features.table())


@pytest.mark.parametrize("scale", [1e-3, 7.0, 1e3])
@pytest.mark.parametrize("which", ["weights", "gradient", "both"])
def test_nothing_depends_on_scale(which: str, scale: float) -> None:
    """Weights or gradient in other units have the same features."""
    weights, gradient = weights_of()
    expected = table(weights, gradient)
    weights_scale, gradient_scale = (scale if which in (name, "both") else 1.0 for name in ("weights", "gradient"))

    actual = table(
        {name: part * weights_scale for name, part in weights.items()},
        {name: part * gradient_scale for name, part in gradient.items()},
    )

    torch.testing.assert_close(expected.table(), actual.table(), rtol=1e-3, atol=1e-3)


SHAPES: list[tuple[int, ...]] = [(1, 1), (1, 6), (6, 1), (3, 4), (2, 3, 3, 3), (1, 1, 1, 1), (4, 1, 3, 3), (2, 3, 5)]


@pytest.mark.parametrize("name", feature_groups.names)
class TestEveryGroup:
    """Tests of each feature group, whatever it describes."""

    @pytest.mark.parametrize("kind", ["random", "zero gradient", "half zero", "all zero", "equal", "tiny", "huge"])
    def test_finite(self, name: str, kind: str) -> None:
        """Every number is finite and moderate: one weight, equal ones, zeroes and odd units too."""
        for shape in SHAPES:
            weight, gradient = torch.randn(shape, generator=seeded(1)), torch.randn(shape, generator=seeded(2))
            if kind == "zero gradient":
                gradient = torch.zeros(shape)
            elif kind == "half zero":
                gradient.view(-1)[::2] = 0
                weight.view(-1)[::3] = 0
            elif kind == "all zero":
                weight, gradient = torch.zeros(shape), torch.zeros(shape)
            elif kind == "equal":
                weight, gradient = torch.full(shape, 0.1), torch.full(shape, -0.3)
            elif kind == "tiny":
                gradient = gradient * 1e-12
            elif kind == "huge":
                gradient = gradient * 1e12

            table = feature_groups[name].function(seen(weight, gradient))

            assert (math.prod(shape), feature_groups[name].facts["columns"]) == table.shape
            assert torch.float32 == table.dtype
            assert bool(table.isfinite().all())
            assert name == "raw" or float(table.abs().max()) < 100

    def test_arguments_are_not_modified(self, name: str) -> None:
        """Weight and gradient are as they were."""
        weight, gradient = torch.randn(3, 4, generator=seeded(1)), torch.randn(3, 4, generator=seeded(2))
        copies = weight.clone(), gradient.clone()

        feature_groups[name].function(seen(weight, gradient))

        assert torch.equal(copies[0], weight)
        assert torch.equal(copies[1], gradient)

    def test_layout_in_memory_does_not_matter(self, name: str) -> None:
        """Rows follow the weight as indexed, also where its channels are last in memory."""
        weight, gradient = torch.randn(3, 4, 2, 2, generator=seeded(1)), torch.randn(3, 4, 2, 2, generator=seeded(2))
        expected = feature_groups[name].function(seen(weight, gradient))
        last = torch.channels_last

        actual = feature_groups[name].function(
            seen(weight.contiguous(memory_format=last), gradient.contiguous(memory_format=last))
        )

        torch.testing.assert_close(expected, actual)

    def test_a_full_mask_changes_nothing(self, name: str) -> None:
        """Bit for bit the numbers of a network without masks, which scorers were trained on."""
        weights, gradient = weights_of()
        for layer in LAYERS:
            whole = seen(weights[layer.name], gradient[layer.name], layer)
            full = replace(whole, mask=torch.ones(layer.shape, dtype=torch.bool))

            assert torch.equal(feature_groups[name].function(whole), feature_groups[name].function(full))

    @pytest.mark.parametrize("left", [0, 1, 5])
    def test_finite_under_masks(self, name: str, left: int) -> None:
        """Every number is finite and moderate, also where one weight or none is left of a layer."""
        mask = torch.zeros(2, 3, 3, 3, dtype=torch.bool)
        mask.view(-1)[:left] = True
        weight, gradient = torch.randn(2, 3, 3, 3, generator=seeded(1)), torch.randn(2, 3, 3, 3, generator=seeded(2))

        table = feature_groups[name].function(replace(seen(weight * mask, gradient), mask=mask))

        assert (54, feature_groups[name].facts["columns"]) == table.shape
        assert bool(table.isfinite().all())
        assert float(table.abs().max()) < 100


@pytest.mark.parametrize("name", ["magnitude", "gradient", "sensitivity", "flow"])
def test_present_weights_are_described_among_themselves(name: str) -> None:
    """The present weights of a masked layer have the features of a layer with these weights alone."""
    weight, gradient = torch.randn(3, 4, generator=seeded(1)), torch.randn(3, 4, generator=seeded(2))
    mask = torch.rand(3, 4, generator=seeded(3)) < 0.5
    alone = seen(weight[mask][None], gradient[mask][None])

    table = feature_groups[name].function(replace(seen(weight * mask, gradient), mask=mask))

    assert 0 < int(mask.sum()) < 12
    assert torch.equal(feature_groups[name].function(alone), table[mask.flatten()])


def test_a_pruned_weight_stands_where_the_lowest_does() -> None:
    """Its rank is 0 and its logarithm that of the lowest weight present, however large its gradient is."""
    weight, mask = torch.tensor([[0.0, 1.0, 2.0, 3.0]]), torch.tensor([[False, True, True, True]])
    table = feature_groups["gradient"].function(replace(seen(weight, torch.tensor([[9.0, 1.0, 2.0, 3.0]])), mask=mask))

    assert [0.0, 0.0, 0.5, 1.0] == table[:, 0].tolist()
    assert table[0, 1] == table[1, 1] < table[2, 1]


def test_channels_without_weights_do_not_count() -> None:
    """Sums are standardized over the channels that have weights; an empty one stands where the lowest does."""
    weight = torch.tensor([[1.0, 2.0], [3.0, 6.0], [0.0, 0.0]])
    mask = torch.tensor([[True, True], [True, True], [False, False]])
    table = feature_groups["channels"].function(replace(seen(weight, torch.ones(3, 2)), mask=mask))

    torch.testing.assert_close(torch.tensor([-1.0, -1.0, 1.0, 1.0, -1.0, -1.0]), table[:, 0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.tensor([-1.0, 1.0] * 3), table[:, 1], rtol=1e-4, atol=1e-4)


def test_remaining_by_hand() -> None:
    """A quarter of the layer and a tenth of the network are left; at initialization all is."""
    weight, mask = torch.ones(2, 2), torch.tensor([[True, False], [False, False]])
    group = feature_groups["remaining"].function

    under = group(replace(seen(weight, weight, position=replace(POSITION, pruned=90)), mask=mask))

    torch.testing.assert_close(torch.tensor([[math.log(1 / 4), math.log(1 / 10)]] * 4), under)
    assert [[0.0, 0.0]] * 4 == group(seen(weight, weight)).tolist()


def test_magnitude_by_hand() -> None:
    """Magnitude is the rank of |w| from 0 to 1, and its logarithm with mean 0 and spread 1."""
    weight = torch.tensor([[1.0, -(math.e**2)], [math.e**4, -(math.e**6)]])
    table = feature_groups["magnitude"].function(seen(weight, weight))

    torch.testing.assert_close(torch.tensor([0.0, 1 / 3, 2 / 3, 1.0]), table[:, 0])
    expected = torch.tensor([-3.0, -1.0, 1.0, 3.0]) / math.sqrt(5)
    torch.testing.assert_close(expected, table[:, 1], rtol=1e-3, atol=1e-3)


def test_gradient_tells_whether_signs_agree() -> None:
    """The last column of the gradient group is the sign of w g."""
    weight, gradient = torch.tensor([[1.0, -1.0, 2.0]]), torch.tensor([[3.0, 4.0, 0.0]])

    assert [1.0, -1.0, 0.0] == feature_groups["gradient"].function(seen(weight, gradient))[:, 2].tolist()


def test_sensitivity_ranks_as_snip_does() -> None:
    """The first column of the sensitivity group is the rank of |w g|."""
    weight, gradient = torch.tensor([[1.0, -2.0, 3.0]]), torch.tensor([[9.0, 2.0, -2.0]])

    table = feature_groups["sensitivity"].function(seen(weight, gradient))

    assert [1.0, 0.0, 0.5] == table[:, 0].tolist()


def test_channels_by_hand() -> None:
    """Each weight has the standardized logarithm of the sums over its output and its input."""
    weight = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    table = feature_groups["channels"].function(seen(weight, torch.ones(2, 2)))

    torch.testing.assert_close(torch.tensor([-1.0, -1.0, 1.0, 1.0]), table[:, 0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.tensor([-1.0, 1.0, -1.0, 1.0]), table[:, 1], rtol=1e-4, atol=1e-4)


def test_layer_by_hand() -> None:
    """A layer's facts are the logarithms of its fan-in, fan-out, kernel, stride and share, and its place."""
    layer = replace(plain(2, 3, 3, 3), stride=2)
    weight = torch.ones(2, 3, 3, 3)
    middle, last = (
        feature_groups["layer"].function(seen(weight, weight, layer, Position(index, 3, 108)))[0] for index in (1, 2)
    )

    facts = [math.log(27), math.log(18), math.log(9), math.log(2), math.log(0.5)]
    torch.testing.assert_close(torch.tensor([*facts, 0.5, 0.0, 0.0]), middle)
    torch.testing.assert_close(torch.tensor([*facts, 1.0, 0.0, 1.0]), last)


def test_only_layer_of_a_network_is_first_and_last() -> None:
    """A network of one layer has a place too."""
    table = feature_groups["layer"].function(seen(torch.ones(1, 1), torch.ones(1, 1), position=Position(0, 1, 1)))

    assert [0.0, 1.0, 1.0] == table[0, 5:].tolist()


def test_take_keeps_some_layers() -> None:
    """In the order that is asked for, all columns of each."""
    features = table(*weights_of())
    names = [LAYERS[2].name, LAYERS[0].name]

    subset = features.take(names)

    assert names == list(subset.values)
    assert features.columns == subset.columns
    assert torch.equal(torch.cat([features.values[name] for name in names]), subset.table())


def test_raw_is_the_weight_and_its_gradient() -> None:
    """Not ranked, not standardized."""
    weight, gradient = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.5, 3.0]])

    assert [[1.0, 0.5], [-2.0, 3.0]] == feature_groups["raw"].function(seen(weight, gradient)).tolist()


def test_flow_ranks_as_synflow_does() -> None:
    """The first column of the flow group is the rank of the paths through a weight, however many there are."""
    weight = torch.tensor([[1.0, 2.0, 3.0]])
    layer = Seen(plain(1, 3), POSITION, weight, flow=torch.tensor([[1e200, 1e210, 1e-200]], dtype=torch.float64))

    assert [0.5, 1.0, 0.0] == feature_groups["flow"].function(layer)[:, 0].tolist()


def test_only_what_is_asked_for_stands_in_a_table() -> None:
    """Groups stand in the order of the registry, and need no more than they say."""
    layer = Seen(plain(1, 3), POSITION, torch.ones(1, 3))

    (features,) = table_layers([layer], ["layer", "magnitude"])

    assert ("magnitude",) * 2 + ("layer",) * 8 == features.columns == columns_of(["layer", "magnitude"])
    assert set() == needs_of(["layer", "magnitude"])
    assert {"gradient", "flow", "joins"} == needs_of(["raw", "flow", "joins"])


@pytest.mark.parametrize("name", feature_groups.names)
def test_columns_are_as_many_as_registered(name: str) -> None:
    """Prices count them without torch."""
    assert len(columns_of([name])) == table(*weights_of(), [name]).table().shape[1]


def test_layers_of_a_residual_network_stand_where_they_are() -> None:
    """Both layers of a block are on a branch, the second is summed; a projection is on a shortcut and summed too."""
    evidence = evidence_of(build_model("resnet8", {"width": 4}, (3, 8, 8), 3), (3, 8, 8))

    positions = dict(zip(evidence.weights, positions_of(evidence, joins=True), strict=True))
    summed = [name for name, position in positions.items() if position.summed]

    assert [name for name in positions if not positions[name].branch] == [
        next(iter(positions)),
        next(reversed(positions)),
    ]
    assert len(summed) == 3 + 2  # three blocks, two of them with a projection
    assert [name for name, position in positions.items() if position.shortcut] == [
        name for name in summed if "shortcut" in name
    ]


def test_a_network_without_sums_has_none() -> None:
    """Every layer stands alone in the row."""
    evidence = evidence_of(small(), SHAPE)

    positions = positions_of(evidence, joins=True)

    assert list(range(len(positions))) == [position.index for position in positions]
    assert not any(position.branch or position.shortcut or position.summed for position in positions)


def test_flow_orders_weights_as_synflow_does() -> None:
    """The rank in the layer is the rank of SynFlow's score."""
    evidence = evidence_of(small(), SHAPE, batches=BATCHES)

    (first, *_) = describe(evidence, ["flow"], images=8)
    name, table = next(iter(first.values.items()))

    expected = criteria["synflow"].function(evidence)[name].flatten()
    assert torch.equal(expected.argsort(), table[:, 0].argsort())


def test_a_network_is_described_under_its_masks() -> None:
    """Features contain the present shares of layer and network, and ranks are those among the present weights."""
    model = small()
    masks = random_masks(model)
    masks["head.weight"] = torch.ones_like(masks["head.weight"])
    evidence = evidence_of(model, SHAPE, masks=masks)
    total, left = (sum(int(part.sum()) for part in each.values()) for each in (all_ones(model), masks))

    parts = describe(evidence, ["magnitude", "remaining"], images=8)
    result = {name: table for part in parts for name, table in part.values.items()}

    for name, table in result.items():
        mask = masks[name].flatten()
        shares = torch.tensor([int(mask.sum()) / len(mask), left / total])
        torch.testing.assert_close(shares.log().expand(len(mask), 2), table[:, 2:])
        assert 0.0 == float(table[mask, 0].min())
        assert not table[~mask, 0].any()


def test_full_masks_are_no_masks() -> None:
    """At initialization every number is bit for bit what it is without looking at masks."""
    model, groups = build_model("resnet8", {"width": 4}, (3, 8, 8), 3), ["magnitude", "gradient", "channels"]
    evidence = evidence_of(model, (3, 8, 8), batches=[batch_of((3, 8, 8), 8)])
    gradient = evidence.gradient(evidence.weights, evidence.draw(8))
    positions = positions_of(evidence, joins=False)

    for layer, position, part in zip(evidence.layers, positions, describe(evidence, groups, 8), strict=True):
        (plain,) = table_layers([Seen(layer, position, evidence.weights[layer.name], gradient[layer.name])], groups)

        assert 0 == position.pruned
        assert torch.equal(plain.values[layer.name], part.values[layer.name])


def test_nothing_is_computed_that_no_group_needs() -> None:
    """No gradient for features of the weights alone: no batch is drawn."""
    evidence = evidence_of(small(), SHAPE, batches=[])

    assert len(list(describe(evidence, ["magnitude", "layer", "flow"], images=8))) == len(evidence.layers)


def test_where_a_layer_stands_by_hand() -> None:
    """The means of SNIP's and SynFlow's scores over a layer's weights, each over the network's mean, as logarithms."""
    evidence = evidence_of(small(), SHAPE, batches=BATCHES)
    snip = criteria["snip"].function(evidence, images=8)
    synflow = criteria["synflow"].function(evidence)

    parts = describe(evidence, ["standing"], images=8)
    result = {name: table for part in parts for name, table in part.values.items()}

    for column, scores in enumerate((snip, synflow)):
        whole = torch.cat([values.flatten().double() for values in scores.values()]).mean()
        for name, values in scores.items():
            expected = (values.double().mean() / whole).log()
            torch.testing.assert_close(expected, result[name][0, column].double(), rtol=1e-4, atol=1e-4)
            assert len(result[name].unique(dim=0)) == 1
