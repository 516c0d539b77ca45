"""Features of a whole network: what groups need, where layers stand."""

from __future__ import annotations

import torch

from autosparse.core.criteria import criteria
from autosparse.core.describe import describe, places_of
from autosparse.models import build_model
from tests.core.conftest import SHAPE, batch_of, evidence_of, small

BATCHES = [batch_of(SHAPE, 8)]


def test_layers_of_a_residual_network_stand_where_they_are() -> None:
    """Both layers of a block are on a branch, the second is summed; a projection is on a shortcut and summed too."""
    evidence = evidence_of(build_model("resnet8", {"width": 4}, (3, 8, 8), 3), (3, 8, 8))

    places = dict(zip(evidence.weights, places_of(evidence, joins=True), strict=True))
    summed = [name for name, place in places.items() if place.summed]

    assert [name for name in places if not places[name].branch] == [next(iter(places)), next(reversed(places))]
    assert len(summed) == 3 + 2  # three blocks, two of them with a projection
    assert [name for name, place in places.items() if place.shortcut] == [name for name in summed if "shortcut" in name]


def test_a_network_without_sums_has_none() -> None:
    """Every layer stands alone in the row."""
    evidence = evidence_of(small(), SHAPE)

    places = places_of(evidence, joins=True)

    assert list(range(len(places))) == [place.index for place in places]
    assert not any(place.branch or place.shortcut or place.summed for place in places)


def test_flow_orders_weights_as_synflow_does() -> None:
    """The rank in the layer is the rank of SynFlow's score."""
    evidence = evidence_of(small(), SHAPE, batches=BATCHES)

    (first, *_) = describe(evidence, ["flow"], images=8)
    name, table = next(iter(first.values.items()))

    expected = criteria["synflow"].function(evidence)[name].flatten()
    assert torch.equal(expected.argsort(), table[:, 0].argsort())


def test_nothing_is_computed_that_no_group_needs() -> None:
    """No gradient for features of the weights alone: no batch is drawn."""
    evidence = evidence_of(small(), SHAPE, batches=[])

    assert len(list(describe(evidence, ["magnitude", "layer", "flow"], images=8))) == len(evidence.layers)
