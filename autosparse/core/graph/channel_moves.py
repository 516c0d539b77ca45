"""Rules of channel labels for operations that move elements: they run on the labels themselves."""

from __future__ import annotations

from typing import Any

from autosparse.core.graph.channel_held import Held
from autosparse.core.graph.channel_labels import CONSTANT, first_along, varying
from autosparse.core.graph.channel_registry import argument, rule, unknown
from autosparse.core.graph.channel_walk import Walk, operation_of, shape_of
from autosparse.lazy_torch import torch


@rule(
    "view", "_unsafe_view", "reshape", "permute", "transpose", "t", "expand", "squeeze", "unsqueeze", "repeat",
    "flatten", "unflatten", "movedim", "pixel_shuffle", "pixel_unshuffle", "repeat_interleave", "numpy_T", "mT",
)  # fmt: skip
def _moved(walk: Walk, node: Any) -> Any:
    return _executed(walk, node)


def _executed(walk: Walk, node: Any) -> Any:
    value = walk.of(node.args[0])
    # Labels have other strides than the tensor.
    move = torch.reshape if operation_of(node) in ("view", "_unsafe_view") else node.target
    if isinstance(value, Held):
        return value.moved(lambda one: move(one, *node.args[1:], **node.kwargs))
    if not isinstance(value, torch.Tensor):
        return unknown(walk, node)
    labels = move(value, *node.args[1:], **node.kwargs)
    if tuple(value.shape) != tuple(labels.shape) and len(varying(labels)) > 1:
        walk.single.append(labels)
    if labels.ndim != value.ndim and varying(value):
        walk.owners.append((walk.module, value))
    return labels


@rule("channel_shuffle", "native_channel_shuffle")
def _shuffled(walk: Walk, node: Any) -> Any:
    if isinstance(labels := walk.of(node.args[0]), torch.Tensor):
        walk.single.append(labels.unflatten(1, (node.args[1], -1)))
    return _executed(walk, node)


@rule("select", "slice", "roll", "index_select", "flip", "narrow")
def _picked(walk: Walk, node: Any) -> Any:
    labels = walk.of(node.args[0])
    if isinstance(labels, torch.Tensor):
        dims = argument(node, 2, "dims", []) if operation_of(node) == "roll" else argument(node, 1, "dim", 0)
        dims = [dims] if isinstance(dims, int) else [*dims] or [*range(labels.ndim)]
        kept = [d for d in dims if not (operation_of(node) == "slice" and shape_of(node)[d] == labels.shape[d])]
        walk.require(labels, kept)
    if operation_of(node) == "index_select":
        return _indexed(walk, node, [node.args[2]])
    return _executed(walk, node)


@rule("unbind", "split", "split_with_sizes", "chunk")
def _parts(walk: Walk, node: Any) -> Any:
    value, default = walk.of(node.args[0]), 0
    dim = argument(node, 1 if operation_of(node) == "unbind" else 2, "dim", default)
    if isinstance(value, Held):
        return value.moved(lambda one: node.target(one, *node.args[1:], **node.kwargs))
    if not isinstance(value, torch.Tensor):
        return unknown(walk, node)
    parts = [*node.target(value, *node.args[1:], **node.kwargs)]
    dim %= value.ndim
    if operation_of(node) != "unbind" and len({part.shape[dim] for part in parts}) == 1:
        walk.single.append(value.unflatten(dim, (len(parts), -1)))  # equal parts stay equal
    else:
        walk.require(value, [dim])
    walk.owners.append((walk.module, value))
    return parts


@rule("getitem")
def _item(walk: Walk, node: Any) -> Any:
    value = walk.of(node.args[0])
    return value[node.args[1]] if isinstance(value, list | tuple) else unknown(walk, node)


@rule("cat")
def _concatenated(walk: Walk, node: Any) -> Any:
    parts = [part for part in node.args[0] if 0 not in shape_of(part)]  # an empty cache
    values = [walk.of(part) for part in parts]
    dim = argument(node, 1, "dim", 0)
    if parts and all(isinstance(value, Held) for value in values):
        names = dict.fromkeys(name for value in values for name in value.names)
        return Held((*names,), 0, values[0].view, torch.cat([value.positions for value in values], dim))
    labels = [walk.activation(part) for part in parts]
    if not parts or any(one is None for one in labels):
        return unknown(walk, node)
    known = [one for one in labels if one is not None]
    dim %= known[0].ndim
    moving = [dim in varying(one) for one, value in zip(known, values, strict=True) if not isinstance(value, Held)]
    if any(moving) or all(bool((walk.labels.roots(one) == CONSTANT).all()) for one in known):
        return torch.cat(known, dim)
    # Tokens next to one another share their channels.
    shape = [*shape_of(node)]
    lines = [first_along(one, [dim]) for one, value in zip(known, values, strict=True) if not isinstance(value, Held)]
    for one in lines[1:]:
        walk.labels.join(lines[0], one, walk.reason)
    for value in values:
        if isinstance(value, Held):
            walk.attach(value, lines[0].expand(value.shape))
    return lines[0].expand(shape)


@rule("stack")
def _stacked(walk: Walk, node: Any) -> Any:
    labels = [walk.activation(part) for part in node.args[0]]
    if any(one is None for one in labels):
        return unknown(walk, node)
    result = torch.stack([one for one in labels if one is not None], argument(node, 1, "dim", 0))
    if len(varying(result)) > 1:
        walk.single.append(result)
    return result


@rule("pad", "constant_pad_nd")
def _padded(walk: Walk, node: Any) -> Any:
    labels, sizes = walk.activation(node.args[0]), node.args[1]
    if labels is None:
        return unknown(walk, node)
    padded = {labels.ndim - 1 - number // 2 for number, size in enumerate(sizes) if size}
    if padded & {*varying(labels)}:
        return torch.nn.functional.pad(labels, [*sizes], value=CONSTANT)
    return first_along(labels, padded).expand(shape_of(node))


@rule("index")
def _index(walk: Walk, node: Any) -> Any:
    return _indexed(walk, node, node.args[1])


def _indexed(walk: Walk, node: Any, indices: Any) -> Any:
    value = walk.of(node.args[0])
    known = [None if index is None else walk.concrete(index) for index in indices]
    if any(one is None for one, index in zip(known, indices, strict=True) if index is not None):
        return unknown(walk, node)
    if operation_of(node) == "index_select":
        known = [*[None] * (node.args[1] % len(shape_of(node.args[0]))), *known]
    take = tuple(slice(None) if one is None else one for one in known)
    if isinstance(value, Held):
        return Held(value.names, value.first, value.view, value.positions[take])
    if not isinstance(value, torch.Tensor):
        return unknown(walk, node)
    walk.require(value, [dim for dim, one in enumerate(known) if one is not None])
    return value[take]
