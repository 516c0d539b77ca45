"""Features of all weights of a network, from what a criterion may look at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from autosparse.core.evidence import Evidence
from autosparse.core.features import Features, Position, Seen, needs_of, table_layers
from autosparse.core.graph.connectivity import describe_network
from autosparse.core.weights import Tensors
from autosparse.core.zero_scores import carrying_signal, silent_layers


def describe(evidence: Evidence, groups: Iterable[str], images: int) -> Iterator[Features]:
    """The feature table of one layer after another, gradients being means over `images` training images.

    Only what the groups need is looked at, and the network is seen as it is under its masks. Raises UsageError for a
    network that takes whole numbers where a group needs its flow.
    """
    groups = tuple(groups)
    needs = needs_of(groups)
    gradient = evidence.gradient(evidence.weights, evidence.draw(images)) if "gradient" in needs else {}
    flow = _flow(evidence) if "flow" in needs else {}
    if silent_layers({**flow, **gradient}, evidence):
        carrying, replaced = carrying_signal(evidence)
        if replaced:
            return describe(carrying, groups, images)
    standing = _standing(evidence, gradient, flow) if "standing" in needs else {}
    seen = (
        Seen(
            layer,
            position,
            evidence.weights[layer.name],
            gradient.get(layer.name),
            flow.get(layer.name),
            None if bool(evidence.masks[layer.name].all()) else evidence.masks[layer.name],
            standing.get(layer.name, (1.0, 1.0)),
        )
        for layer, position in zip(evidence.layers, positions_of(evidence, joins="joins" in needs), strict=True)
    )
    return table_layers(seen, groups)


def positions_of(evidence: Evidence, *, joins: bool) -> list[Position]:
    """Where every layer stands; about sums only with `joins`, which takes a pass of the network."""
    layers = evidence.layers
    order = [layer.name for layer in layers]
    branch, shortcut, summed = set[str](), set[str](), set[str]()
    for join in describe_network(evidence).joins if joins else ():
        if join.is_sum:
            for way in join.branches:
                branch.update(way)
                shortcut.update(way if join.is_shortcut(way) else ())
                summed.update(sorted(way, key=order.index)[-1:])
    total = sum(layer.size for layer in layers)
    pruned = total - sum(int(mask.count_nonzero()) for mask in evidence.masks.values())
    return [
        Position(number, len(layers), total, layer.name in branch, layer.name in shortcut, layer.name in summed, pruned)
        for number, layer in enumerate(layers)
    ]


def _standing(evidence: Evidence, gradient: Tensors, flow: Tensors) -> dict[str, tuple[float, float]]:
    # The means of |w g| and of flow over a layer's weights that are present, each over that of the network.
    present = {name: max(1, int(mask.count_nonzero())) for name, mask in evidence.masks.items()}
    sums = {
        name: (float((weight * gradient[name]).abs().double().sum()), float(flow[name].double().sum()))
        for name, weight in evidence.weights.items()
    }
    whole = [sum(pair[side] for pair in sums.values()) / sum(present.values()) for side in (0, 1)]
    return {
        name: (pair[0] / present[name] / (whole[0] or 1), pair[1] / present[name] / (whole[1] or 1))
        for name, pair in sums.items()
    }


def _flow(evidence: Evidence) -> Tensors:
    # In double precision: products over many layers leave the range of float32.
    leaves = {name: weight.detach().abs().double().requires_grad_() for name, weight in evidence.weights.items()}
    _, gradient = evidence.flow_gradient(leaves)
    return {name: leaf.detach() * gradient[name] for name, leaf in leaves.items()}
