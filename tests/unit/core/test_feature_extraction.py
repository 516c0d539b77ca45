"""Features of a whole network: what groups need, where layers stand."""

from __future__ import annotations

import torch

from autosparse.core.criteria import criteria
from autosparse.core.feature_extraction import describe, positions_of
from autosparse.core.features import Seen, table_layers
from autosparse.models import build_model
from tests.unit.core.conftest import SHAPE, all_ones, batch_of, evidence_of, random_masks, small

BATCHES = [batch_of(SHAPE, 8)]


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
    """The layer's and the network's present shares are told, and ranks are those among the present weights."""
    model = small()
    masks = random_masks(model)
    masks["head.weight"] = torch.ones_like(masks["head.weight"])
    evidence = evidence_of(model, SHAPE, masks=masks)
    total, left = (sum(int(part.sum()) for part in each.values()) for each in (all_ones(model), masks))

    parts = describe(evidence, ["magnitude", "remaining"], images=8)
    found = {name: table for part in parts for name, table in part.values.items()}

    for name, table in found.items():
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
    found = {name: table for part in parts for name, table in part.values.items()}

    for column, scores in enumerate((snip, synflow)):
        whole = torch.cat([values.flatten().double() for values in scores.values()]).mean()
        for name, values in scores.items():
            expected = (values.double().mean() / whole).log()
            torch.testing.assert_close(expected, found[name][0, column].double(), rtol=1e-4, atol=1e-4)
            assert len(found[name].unique(dim=0)) == 1
