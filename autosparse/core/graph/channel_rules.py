"""Rules of channel labels by operation of torch: what a layer computes from, moves, combines or averages."""

from __future__ import annotations

from typing import Any

from autosparse.core.graph.channel_flow import AVERAGES, POINTWISE, POOLS
from autosparse.core.graph.channel_held import Held
from autosparse.core.graph.channel_labels import CONSTANT, along, compressed, constant, first_along, varying, vector
from autosparse.core.graph.channel_registry import argument, loses_groups, rule, unknown, unlabelled
from autosparse.core.graph.channel_walk import Walk, is_node, is_tensor, operation_of, shape_of
from autosparse.lazy_torch import torch

# -- layers with weights


@rule("linear")
def _linear(walk: Walk, node: Any) -> Any:
    return _multiplied(walk, node, node.args[0], node.args[1], transposed=True, bias=argument(node, 2, "bias"))


@rule("addmm")
def _addmm(walk: Walk, node: Any) -> Any:
    return _multiplied(walk, node, node.args[1], node.args[2], transposed=False, bias=node.args[0])


def _multiplied(walk: Walk, node: Any, read: Any, held: Any, *, transposed: bool, bias: Any = None) -> Any:
    # A matrix of weights, `[outputs, inputs]` or untransposed, reads the last dimension.
    labels, weight = walk.activation(read), walk.weight(held)
    if labels is None or weight is None or len(weight[1]) != 2 or CONSTANT in weight[1]:
        return _computed(walk, node)
    name, (rows, columns) = weight[0], weight[1] if transposed else weight[1][::-1]
    last = labels.ndim - 1
    if any(dim != last for dim in varying(walk.labels.roots(labels))) and last not in varying(labels):
        walk.fix(labels)  # it mixes positions, and channels are another dimension
    walk.require(labels, range(last))
    walk.follow(name, columns, vector(labels, last), reads=True)
    gives = walk.axis(name, rows)
    if is_node(bias):
        walk.attach(walk.of(bias), gives)
    return along(gives, last, shape_of(node))


@rule("conv1d", "conv2d", "conv3d")
def _convolution(walk: Walk, node: Any) -> Any:
    return _convolved(walk, node, groups=argument(node, 6, "groups", 1), transposed=False)


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _transposed(walk: Walk, node: Any) -> Any:
    return _convolved(walk, node, groups=argument(node, 6, "groups", 1), transposed=True)


def _convolved(walk: Walk, node: Any, *, groups: int, transposed: bool) -> Any:
    labels, weight = walk.activation(node.args[0]), walk.weight(node.args[1])
    if labels is None or weight is None or weight[1][:2] != (0, 1) or labels.ndim != len(weight[1]):
        return _computed(walk, node)
    name, shape = weight[0], shape_of(node)
    walk.require(labels, [dim for dim in range(labels.ndim) if dim != 1])
    reads = vector(labels, 1)
    if groups == 1:
        outputs, inputs = (1, 0) if transposed else (0, 1)
        walk.follow(name, inputs, reads, reads=True)
        gives = walk.axis(name, outputs)
    elif loses_groups(groups, len(reads)):
        of_groups = reads.view(groups, -1)
        walk.labels.join(of_groups[:, :1], of_groups, walk.reason)
        gives = of_groups[:, 0].repeat_interleave(shape[1] // groups)
        walk.follow(name, 0, of_groups[:, 0].repeat_interleave(len(reads) // groups) if transposed else gives)
    else:  # the same positions in every group
        walk.labels.join(reads.view(groups, -1)[:1], reads.view(groups, -1), walk.reason)
        walk.follow(name, 1 - transposed, reads[: len(walk.axis(name, 1 - transposed))], reads=True)
        gives = walk.axis(name, int(transposed)).repeat(groups if transposed else 1)
        walk.labels.join(gives.view(groups, -1)[:1], gives.view(groups, -1), walk.reason)
    if is_node(bias := argument(node, 2, "bias")):
        walk.attach(walk.of(bias), gives)
    return along(gives, 1, shape)


@rule("embedding")
def _embedding(walk: Walk, node: Any) -> Any:
    weight = walk.weight(node.args[0])
    if weight is None or weight[1] != (0, 1):
        return unknown(walk, node)
    return along(walk.axis(weight[0], 1), len(shape_of(node)) - 1, shape_of(node))


@rule("_native_batch_norm_legit_no_training", "native_batch_norm", "batch_norm")
def _batch_norm(walk: Walk, node: Any) -> Any:
    labels = walk.activation(node.args[0])
    if labels is None:
        return unknown(walk, node)
    walk.require(labels, [dim for dim in range(labels.ndim) if dim != 1])
    for held in filter(is_node, node.args[1:5]):
        walk.attach(walk.of(held), vector(labels, 1))
    return [labels, None, None] if isinstance(node.meta["val"], list | tuple) else labels


@rule("group_norm", "native_group_norm")
def _group_norm(walk: Walk, node: Any) -> Any:
    labels = walk.activation(node.args[0])
    if labels is None:
        return unknown(walk, node)
    is_native = operation_of(node) == "native_group_norm"
    groups = node.args[6] if is_native else node.args[1]
    walk.require(labels, [dim for dim in range(labels.ndim) if dim != 1])
    of_groups = vector(labels, 1).view(groups, -1)
    walk.labels.join(of_groups[:, :1], of_groups, walk.reason)
    for held in filter(is_node, node.args[1:3] if is_native else node.args[2:4]):
        walk.attach(walk.of(held), vector(labels, 1))
    walk.owners.append((walk.module, labels))
    return [labels, None, None] if is_native else labels


@rule("instance_norm")
def _instance_norm(walk: Walk, node: Any) -> Any:
    if (labels := walk.activation(node.args[0])) is not None:
        walk.owners.append((walk.module, labels))
    return _batch_norm(walk, node)


# -- products of activations


@rule("matmul", "bmm", "mm")
def _matmul(walk: Walk, node: Any) -> Any:
    first, second = node.args[:2]
    if isinstance(walk.of(second), Held) and not isinstance(walk.of(first), Held):
        return _multiplied(walk, node, first, second, transposed=False)
    return _attended(walk, node, [first, second])


@rule("scaled_dot_product_attention")
def _attention(walk: Walk, node: Any) -> Any:
    result = _attended(walk, node, node.args[:3])
    if isinstance(result, torch.Tensor) and is_node(mask := argument(node, 3, "attn_mask")):
        scores = result[..., :1].expand(*result.shape[:-1], shape_of(mask)[-1])
        if (of_mask := walk.of(mask)) is not None:
            _combine(walk, [scores, of_mask])
    return result


def _attended(walk: Walk, node: Any, factors: Any) -> Any:
    # Everything that one product of matrices reads, such as one attention head, is one channel of its result.
    labels = [walk.activation(factor) for factor in factors]
    if any(one is None or one.ndim < 2 for one in labels):
        return unknown(walk, node)
    shape = shape_of(node)
    heads = torch.broadcast_shapes(*(one.shape[:-2] for one in labels if one is not None))
    for one in labels:
        assert one is not None
        _unite_within(walk, one, tuple(range(one.ndim - 2)))
        if one.ndim > 2 and tuple(one.shape[:-2]) != tuple(heads):
            walk.fix(one)
    kept = [first_along(one, (one.ndim - 2, one.ndim - 1)) for one in labels if one is not None]
    for one in kept[1:]:
        walk.labels.join(kept[0], one, walk.reason)
    return kept[0].expand(*heads, *shape[-2:]) if kept[0].ndim == len(shape) else constant(shape)


def _unite_within(walk: Walk, labels: torch.Tensor, kept: tuple[int, ...]) -> None:
    # Join the labels along all dimensions but those kept.
    small = compressed(labels)
    flat = small.permute(*kept, *(dim for dim in range(small.ndim) if dim not in kept))
    flat = flat.flatten(len(kept)) if len(kept) < small.ndim else flat.unsqueeze(-1)
    walk.labels.join(flat[..., :1], flat, walk.reason)


@rule("einsum")
def _einsum(walk: Walk, node: Any) -> Any:
    # Letters that every term has count matrices; labels that vary along any other letter are joined.
    equation, operands = node.args[0].replace(" ", ""), node.args[1]
    terms, _, result = equation.partition("->")
    letters = terms.split(",")
    labels = [walk.activation(operand) for operand in operands]
    if "..." in equation or not result or any(one is None for one in labels):
        return unknown(walk, node)
    common = [letter for letter in result if all(letter in term for term in letters)]
    kept = []
    for one, term in zip(labels, letters, strict=True):
        assert one is not None
        _unite_within(walk, one, tuple(term.index(letter) for letter in common))
        order = [term.index(letter) for letter in common] + [i for i, c in enumerate(term) if c not in common]
        moved = one.permute(order)
        kept.append(
            first_along(moved, range(len(common), moved.ndim)).flatten(len(common))
            if moved.ndim > len(common)
            else moved.unsqueeze(-1)
        )
    for one in kept[1:]:
        walk.labels.join(kept[0], one, walk.reason)
    sizes = dict(zip(result, shape_of(node), strict=True))
    spread = kept[0].squeeze(-1)
    index = [spread.shape[common.index(letter)] if letter in common else 1 for letter in result]
    moved = spread.permute([common.index(letter) for letter in result if letter in common])
    return moved.reshape(index).expand(*sizes.values())


# -- operations on every element


@rule("prelu")
def _prelu(walk: Walk, node: Any) -> Any:
    # Its weight has one number for all channels, or one for each, which are dimension 1.
    labels, held = walk.activation(node.args[0]), walk.of(node.args[1])
    if labels is None or not isinstance(held, Held) or labels.ndim < 2:
        return unknown(walk, node)
    if held.shape[0] > 1:
        walk.require(labels, [dim for dim in range(labels.ndim) if dim != 1])
        walk.attach(held, vector(labels, 1))
    return labels


@rule(*POINTWISE, "log_sigmoid", "_prelu_kernel", "threshold")
def pointwise(walk: Walk, node: Any) -> Any:
    """Join the labels of elements that are combined; broadcast tensors stay whole."""
    values = [walk.of(read) for read in node.all_input_nodes if is_tensor(read)]
    if all(isinstance(value, Held) for value in values):
        return (
            values[0] if len(values) == 1 and tuple(shape_of(node)) == tuple(values[0].shape) else _computed(walk, node)
        )
    if any(not isinstance(value, torch.Tensor | Held) for value in values):
        return unknown(walk, node)
    return _combine(walk, values).expand(shape_of(node))


def _combine(walk: Walk, values: list[Any]) -> torch.Tensor:
    computed = sorted(
        (value for value in values if isinstance(value, torch.Tensor)),
        key=lambda one: (one.numel(), len(varying(one))),
        reverse=True,
    )
    shape = torch.broadcast_shapes(*(value.shape for value in values))
    first = max((one.expand(shape) for one in computed), key=lambda one: _distinct(walk, one))
    for other in computed:
        if other is first or other.numel() == 1:
            continue
        wide = other.reshape([1] * (len(shape) - other.ndim) + [*other.shape])
        if any(size == 1 < full for size, full in zip(wide.shape, shape, strict=True)):
            walk.broadcasts.append((first, wide, walk.reason))
        else:
            walk.labels.join(first, wide, walk.reason)
    for held in (value for value in values if isinstance(value, Held)):
        walk.attach(held, first)
    return first


def _distinct(walk: Walk, labels: torch.Tensor) -> int:
    return len(walk.labels.roots(labels).unique())


@rule(
    "clone",
    "contiguous",
    "alias",
    "detach",
    "_to_copy",
    "to",
    "dropout",
    "lift_fresh_copy",
    "type_as",
    "native_dropout",
    "zeros_like",
    "ones_like",
    "full_like",
    "empty_like",
)
def _same(walk: Walk, node: Any) -> Any:
    return walk.of(node.args[0])


@rule("new_zeros", "new_ones", "new_full", "new_empty")
def _new(walk: Walk, node: Any) -> Any:
    return unlabelled(node)


@rule("softmax", "_softmax", "log_softmax", "_log_softmax", "cumsum", "_safe_softmax")
def _along_dim(walk: Walk, node: Any) -> Any:
    labels = walk.activation(node.args[0])
    if labels is None or shape_of(node) != tuple(labels.shape):
        return unknown(walk, node)
    walk.require(labels, [node.args[1]])
    return labels


@rule("glu")
def _gated(walk: Walk, node: Any) -> Any:
    labels = walk.activation(node.args[0])
    if labels is None:
        return unknown(walk, node)
    values, gates = labels.chunk(2, argument(node, 1, "dim", -1))
    walk.labels.join(values, gates, walk.reason)
    return values


@rule("layer_norm", "native_layer_norm", "rms_norm", "_fused_rms_norm")
def _layer_norm(walk: Walk, node: Any) -> Any:
    labels = walk.activation(node.args[0])
    if labels is None:
        return unknown(walk, node)
    dims = range(labels.ndim - len(node.args[1]), labels.ndim)
    walk.require(labels, dims)
    for held in filter(is_node, node.args[2:4]):
        walk.attach(walk.of(held), labels)
    value = node.meta["val"]
    return [labels, *unlabelled(node)[1:]] if isinstance(value, list | tuple) else labels


@rule("mean", "sum", "amax", "amin", "var", "std", "prod", "logsumexp", "linalg_vector_norm", "norm", "any", "all")
def _reduced(walk: Walk, node: Any) -> Any:
    labels = walk.activation(node.args[0])
    position = 2 if operation_of(node) in ("linalg_vector_norm", "norm") else 1
    dims = argument(node, position, "dim")
    if labels is None or not is_tensor(node):
        return unknown(walk, node)
    over = [*range(labels.ndim)] if dims is None or dims == [] else [dims] if isinstance(dims, int) else [*dims]
    over = [dim % labels.ndim for dim in over]
    walk.require(labels, over)
    return first_along(labels, over).reshape(shape_of(node))


@rule(
    *POOLS, *AVERAGES, "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_bilinear2d",
    "upsample_bicubic2d", "upsample_linear1d", "upsample_trilinear3d", "_upsample_bicubic2d_aa",
    "_upsample_bilinear2d_aa", "grid_sampler", "reflection_pad1d", "reflection_pad2d", "replication_pad1d",
    "replication_pad2d",
)  # fmt: skip
def _pooled(walk: Walk, node: Any) -> Any:
    # Positions change, channels do not.
    labels, value = walk.activation(node.args[0]), node.meta["val"]
    first = value[0] if isinstance(value, list | tuple) else value
    if labels is None or labels.ndim != first.ndim:
        return unknown(walk, node)
    spatial = [dim for dim in range(labels.ndim) if labels.shape[dim] != first.shape[dim] or dim > labels.ndim - 2]
    walk.require(labels, spatial)
    result = first_along(labels, spatial).expand(first.shape)
    return [result, *unlabelled(node)[1:]] if isinstance(value, list | tuple) else result


# -- everything else


def _computed(walk: Walk, node: Any) -> Any:
    code = f"`{walk.module}`" if walk.module else "the network's code"
    return unknown(walk, node, f"{code} computes its weight from other tensors")


def otherwise(walk: Walk, node: Any) -> Any:
    """Label the result of an operation without a rule of its name: one on every element, or an unknown one."""
    if not any(is_tensor(read) or isinstance(walk.of(read), list) for read in node.all_input_nodes):
        return unlabelled(node)  # made from numbers
    if node.meta.get("val") is None:
        return None  # a check
    if torch.Tag.pointwise in getattr(node.target, "tags", ()) and is_tensor(node):
        return pointwise(walk, node)
    return unknown(walk, node)
