"""Connectivity of a masked network: disconnected layers and branches, empty layers, counts of effective weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autosparse.core.allocation import Counts
from autosparse.core.evidence import Evidence
from autosparse.core.graph.paths import Paths, Untraceable, effective_weights, flow_of, trace_paths
from autosparse.core.weights import Tensors, full_masks, kept
from autosparse.errors import UsageError
from autosparse.lazy_torch import torch


@dataclass(frozen=True)
class Finding:
    """A disconnected part of a masked network, in words, and its layers.

    `kind` is `network` (no output depends on the input), `outputs` (some do not), `stage` (every way into a join is
    disconnected), `shortcut` or `branch` (one way is), `empty` (a layer keeps no weight) or `dead` (none of its weights
    is on a path).
    """

    kind: str
    layers: tuple[str, ...]
    message: str


@dataclass(frozen=True)
class Join:
    """A sum, product or concatenation, with the layers exclusive to each way into it."""

    branches: tuple[tuple[str, ...], ...]
    is_sum: bool

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(name for branch in self.branches for name in branch)

    def is_shortcut(self, branch: tuple[str, ...]) -> bool:
        """Return whether another way into the same sum has more layers."""
        return self.is_sum and len(branch) < max(map(len, self.branches))


@dataclass(frozen=True)
class Network:
    """The connectivity of a dense network: weights on a path, joins, and the layer that computes the outputs."""

    on_path: Tensors
    joins: tuple[Join, ...]
    last: str | None
    """None if several layers compute the outputs"""


def describe_network(evidence: Evidence) -> Network:
    """Describe the network under full masks, its joins from the graph that autograd records."""
    value, gradient, leaves = flow_of(replace(evidence, masks=full_masks(evidence.masks)))
    joins, last = _read_graph(value.grad_fn, leaves) if value.grad_fn is not None else ((), None)
    on_path = {name: part > 0 for name, part in gradient.items()}
    return Network(on_path, joins, last)


def examine(evidence: Evidence, on_path: Mapping[str, torch.Tensor] | None = None) -> tuple[Finding, ...]:
    """Return the parts that only the dense network connects, the most severe first; none for a connected network.

    A layer appears once as part of a branch or the network, and again if it is empty. Takes two passes of the network,
    or one if the weights `on_path` are known. A disconnected network takes one more for every sum that may be cut.
    """
    on_path = effective_weights(evidence) if on_path is None else on_path
    network = describe_network(evidence)
    left = kept(evidence.masks)
    cut = [name for name, part in network.on_path.items() if bool(part.any()) and not bool(on_path[name].any())]
    findings: list[Finding] = []
    reported: set[str] = set()
    if cut and not any(bool(part.any()) for part in on_path.values()):
        reported.update(cut)
        findings.append(
            Finding("network", tuple(cut), "disconnected network (layer collapse), no output depends on the input")
        )
        findings += [
            Finding("stage", join.layers, f"every branch of {_named(join.layers)} is disconnected")
            for join in network.joins
            if all(join.branches) and _stops(evidence, join)
        ]
    elif network.last and bool((without := outputs_without(evidence, on_path, network)).any()):
        message = f"{int(without.sum())} of {len(without)} outputs of {network.last} depend on no input"
        findings.append(Finding("outputs", (network.last,), message))
    for join, branch in ((at, way) for at in network.joins for way in at.branches):
        layers = tuple(name for name in branch if bool(network.on_path[name].any()))
        if layers and not reported.issuperset(layers) and set(layers) <= set(cut):
            reported.update(layers)
            kind = "shortcut" if join.is_shortcut(branch) else "branch"
            findings.append(Finding(kind, layers, f"{kind} {_named(layers)} is disconnected"))
    findings += emptied(evidence.masks)
    findings += [
        Finding("dead", (name,), f"none of the {left[name]} weights that layer {name} keeps is on a path")
        for name in cut
        if name not in reported and left[name]
    ]
    return tuple(findings)


def emptied(masks: Mapping[str, torch.Tensor]) -> tuple[Finding, ...]:
    """Return the layers that keep no weight, without running the network."""
    names = [name for name, mask in masks.items() if mask.numel() and not bool(mask.any())]
    return tuple(Finding("empty", (name,), f"layer {name} keeps no weight") for name in names)


def outputs_without(evidence: Evidence, on_path: Mapping[str, torch.Tensor], network: Network) -> torch.Tensor:
    """Flag the outputs of the network's last layer that depend on no input, though they do when dense."""
    assert network.last is not None
    layer = evidence.layers_by_name[network.last]
    fed, before = (
        layer.spread(parts[network.last]).any(dim=3).any(dim=2).flatten() for parts in (on_path, network.on_path)
    )
    return before & ~fed


def _stops(evidence: Evidence, join: Join) -> bool:
    masks = full_masks(evidence.masks) | {name: evidence.masks[name] for name in join.layers}
    return not bool(flow_of(replace(evidence, masks=masks))[0] > 0)


def _named(layers: Sequence[str]) -> str:
    return layers[0] if len(layers) == 1 else f"{layers[0]} to {layers[-1]}"


def _read_graph(root: Any, leaves: Mapping[str, torch.Tensor]) -> tuple[tuple[Join, ...], str | None]:
    """Return joins in the order of their computation, and the one layer nearest to the output, if any."""
    names = {id(leaf): name for name, leaf in leaves.items()}
    order = {name: number for number, name in enumerate(leaves)}
    behind: dict[Any, frozenset[str]] = {}  # node -> layers whose weights it depends on
    nearest: dict[Any, frozenset[str]] = {}  # node -> layers met first on the way back from it
    joins: list[Join] = []
    for node in _in_order(root):
        inputs = [follow for follow, _ in node.next_functions if follow is not None]
        name = names.get(id(getattr(node, "variable", None)))
        variable = frozenset({name} if name else ())
        weights: list[str] = []
        data = inputs
        # A weight comes straight or through views, which have one input each; a convolution has several, named or not.
        if len(node.next_functions) > 1:
            weights = [name for follow in inputs if (name := _weight(follow, names))]
            data = [follow for follow in inputs if behind[follow] and not _weight(follow, names)]
        behind[node] = variable.union(*(behind[follow] for follow in inputs))
        nearest[node] = frozenset(weights) if weights else variable.union(*(nearest[follow] for follow in data))
        if len(data) > 1:
            shared = frozenset.intersection(*(behind[follow] for follow in data))
            parts = tuple(tuple(sorted(behind[follow] - shared, key=order.__getitem__)) for follow in data)
            joins += [Join(parts, "Add" in node.name())] if any(parts) else []
    last = nearest[root]
    return tuple(dict.fromkeys(joins)), next(iter(last)) if len(last) == 1 else None


def _weight(node: Any, names: Mapping[int, str]) -> str | None:
    """Return the layer whose weight a node is, directly or through views; else None."""
    while len(node.next_functions) == 1 and node.next_functions[0][0] is not None:
        node = node.next_functions[0][0]
    return names.get(id(getattr(node, "variable", None)))


def _in_order(root: Any) -> Iterator[Any]:
    """Yield the nodes of a graph in topological order, without recursion: deep graphs exceed its limit."""
    seen: set[Any] = set()
    stack: list[tuple[Any, bool]] = [(root, False)]
    while stack:
        node, ready = stack.pop()
        if ready:
            yield node
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += [(follow, False) for follow, _ in node.next_functions if follow is not None]


@dataclass(frozen=True)
class Anatomy:
    """The anatomy of a masked network: weights kept, weights on paths, and disconnected parts."""

    kept: Counts
    paths: Paths | None
    """None for a network whose paths cannot be traced"""
    findings: tuple[Finding, ...]


def dissect(evidence: Evidence) -> Anatomy:
    """Return the anatomy of the network under the evidence's masks, in three passes of it.

    Paths are None for an untraceable network, and `note` records it: a diagnosis never stops a run.
    """
    try:
        on_path = effective_weights(evidence)
        findings = examine(evidence, on_path)
        return Anatomy(kept(evidence.masks), trace_paths(evidence, on_path), findings)
    except (UsageError, Untraceable) as error:
        evidence.note(f"effective sparsity and paths are unknown: {error}")
        return Anatomy(kept(evidence.masks), None, emptied(evidence.masks))


def effective(evidence: Evidence) -> Counts:
    """Count the weights per layer that lie on a path from input to output."""
    return kept(effective_weights(evidence))
