"""Walk of a recorded network: the label of every channel, operation by operation.

A rule joins labels at once, or states a condition that must hold in the end: labels that do not vary along a dimension,
or a parameter that follows labels. `settle` applies the conditions until nothing changes. Labels that cannot meet a
condition stay, with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autosparse.core.graph.channel_held import Held, map_parts
from autosparse.core.graph.channel_labels import (
    Labels,
    compressed,
    constant,
    distinct_after,
    first_along,
    pairs,
    varying,
    vector,
)
from autosparse.core.weights import prunable_weights
from autosparse.lazy_torch import torch

Axis = tuple[str, int]
"""A tensor's name and one of its dimensions."""

_PREFIX = "network."
"""The attribute of the recorded module that is the network"""

BORDERS = ("they are the network's inputs", "they are the network's outputs")

_DOES = {
    operation: does
    for does, operations in {
        "normalizes them together": "layer_norm native_layer_norm rms_norm _fused_rms_norm",
        "normalizes over them": "batch_norm _native_batch_norm_legit_no_training native_batch_norm",
        "takes a softmax over them": "softmax _softmax log_softmax _log_softmax _safe_softmax",
        "reduces them to one value": "mean sum amax amin var std prod logsumexp linalg_vector_norm norm any all",
        "slides over them": "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d",
        "mixes positions": "linear addmm matmul mm bmm",
        "picks them by position": "select slice roll index_select flip narrow index gather",
        "splits them by position": "unbind split split_with_sizes chunk",
        "combines them with fixed numbers": "add sub mul div pad constant_pad_nd where maximum minimum cat",
    }.items()
    for operation in operations.split()
}
"""Operation -> clause about channels that it reads and that must stay"""


@dataclass(frozen=True)
class Condition:
    """Labels that must not vary along `dims`."""

    labels: torch.Tensor
    dims: tuple[int, ...]
    reason: str


@dataclass(frozen=True)
class Attachment:
    """Elements of a tensor that meet labels one by one; the tensor is sliced where its elements follow them."""

    held: Held
    labels: torch.Tensor
    reason: str


class Walk:
    """Labels of one network's tensors, from its recorded program.

    `axes` has the labels along each dimension of parameters and buffers; `owners` the modules whose code rearranges
    labels, with them.
    """

    def __init__(self, network: torch.nn.Module, recorded: Any, whole: Mapping[str, str]) -> None:
        self.labels = Labels()
        self.axes: dict[Axis, torch.Tensor] = {}
        self.reads: set[Axis] = set()
        self.used: set[str] = set()
        self.owners: list[tuple[str, torch.Tensor]] = []
        self.whole = {**whole}
        signature = recorded.graph_signature
        held = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self._names = {node: name.removeprefix(_PREFIX) for node, name in held.items()}
        self._constants = {**signature.inputs_to_lifted_tensor_constants}
        self._recorded = recorded
        self._tensors = {
            **dict(network.named_parameters(remove_duplicate=False)),
            **dict(network.named_buffers(remove_duplicate=False)),
        }
        self._first = tied_names(network)
        self._starts: dict[str, int] = {}
        self._total = 0
        self._values: dict[Any, Any] = {}
        self._computed: dict[Any, torch.Tensor | None] = {}
        self.conditions: list[Condition] = []
        self.single: list[torch.Tensor] = []
        self.attachments: list[Attachment] = []
        self.broadcasts: list[tuple[torch.Tensor, torch.Tensor, str]] = []
        self._node: Any = None

    # -- what rules use

    @property
    def names(self) -> list[str]:
        """Names of all parameters and buffers, in model order."""
        return [*self._tensors]

    @property
    def reason(self) -> str:
        """The reason why channels stay that the present node reads, unless it may follow them."""
        name = operation_of(self._node)
        does = _DOES.get(name, f"combines them by `{name}`, which is not supported")
        return f"`{self.module}` {does}" if self.module else f"the network's code {does}"

    @property
    def module(self) -> str:
        """The name of the innermost module whose code calls the present node."""
        stack = [*(self._node.meta.get("nn_module_stack") or {}).values()]
        return str(stack[-1][0]).partition(_PREFIX)[2] if stack else ""

    def of(self, node: Any) -> Any:
        """Return the labels of a node's result: a tensor, a `Held`, a list of these, or None for no tensor."""
        return self._values.get(node)

    def activation(self, node: Any) -> torch.Tensor | None:
        """Return the labels of a computed tensor, also of one that holds parameters; None for anything else."""
        value = self.of(node)
        return constant(value.shape) if isinstance(value, Held) else value

    def concrete(self, node: Any) -> torch.Tensor | None:
        """Return the value of a node that depends on buffers and constants alone, such as an index; None otherwise."""
        if not is_node(node):
            return None
        if node not in self._computed:
            self._computed[node] = self._compute(node)
        return self._computed[node]

    def _compute(self, node: Any) -> Any:
        if node.op == "placeholder":
            name = self._names.get(node.name)
            if name is not None:
                return self._tensors[name].detach()
            held = self._recorded.constants.get(self._constants.get(node.name, ""))
            return held if isinstance(held, torch.Tensor) else None
        if node.op != "call_function" or any(self.concrete(read) is None for read in node.all_input_nodes):
            return None
        values = torch.fx.node.map_arg((node.args, node.kwargs), self.concrete)
        return node.target(*values[0], **values[1])

    def first(self, name: str) -> str:
        """Return the name of a tensor that has several."""
        return self._first[name]

    def axis(self, name: str, dim: int) -> torch.Tensor:
        """Return the labels along a dimension of a parameter or buffer; tied ones share them."""
        key = self.first(name), dim
        if key not in self.axes:
            self.axes[key] = self.labels.new(self._tensors[name].shape[dim])
            if why := self.whole.get(key[0]):
                self.labels.fix(self.axes[key], why)
        return self.axes[key]

    def weight(self, node: Any) -> tuple[str, tuple[int, ...]] | None:
        """Return the parameter that a layer's weight is and the order of its dimensions; None for a computed one.

        The weight may be transposed, or reshaped by dimensions of size 1.
        """
        held = self.of(node)
        order = held.order if isinstance(held, Held) else None
        return None if order is None else (held.names[0], order)

    def closed(self, node: Any, reason: str) -> Any:
        """Return the labels of a node's result whose channels stay, a list for several results."""
        self.labels.fix(label := self.labels.new(1), reason)

        def labels(value: Any) -> torch.Tensor | None:
            return label.view([1] * value.ndim).expand(value.shape) if isinstance(value, torch.Tensor) else None

        return map_parts(labels, node.meta.get("val"))

    def fix(self, value: Any, reason: str | None = None) -> None:
        """Keep all channels of a value."""
        if isinstance(value, torch.Tensor):
            self.labels.fix(value, reason or self.reason)
        elif isinstance(value, Held):
            for name in value.names:
                self.whole.setdefault(name, reason or self.reason)
                for labels in (labels for (tensor, _), labels in self.axes.items() if tensor == name):
                    self.labels.fix(labels, self.whole[name])
        elif isinstance(value, list | tuple):
            for part in value:
                self.fix(part, reason)

    def require(self, labels: Any, dims: Sequence[int]) -> None:
        """Require labels that do not vary along some dimensions."""
        if isinstance(labels, torch.Tensor) and {dim % labels.ndim for dim in dims} & {*varying(labels)}:
            self.conditions.append(Condition(labels, tuple(dim % labels.ndim for dim in dims), self.reason))

    def attach(self, held: Any, labels: torch.Tensor) -> None:
        """Let the elements of a parameter or buffer follow labels of its shape, or of one that it broadcasts to."""
        if not isinstance(held, Held):
            return
        attachment = Attachment(held, labels, self.reason)
        if (line := self._line(attachment, labels)) is not None:
            self.labels.join(*line, self.reason)
        else:
            self.attachments.append(attachment)

    def follow(self, name: str, dim: int, labels: torch.Tensor, *, reads: bool = False) -> None:
        """Join the labels along a dimension of a weight with those of channels."""
        self.labels.join(self.axis(name, dim), labels, self.reason)
        if reads:
            self.reads.add((self.first(name), dim))

    # -- the walk

    def walk(self, rules: Mapping[str, Callable[[Walk, Any], Any]], otherwise: Callable[[Walk, Any], Any]) -> None:
        """Label all nodes in the order of their computation, then settle the conditions."""
        for node in self._recorded.graph.nodes:
            self._node = node
            if node.op == "placeholder":
                self._values[node] = self._placed(node)
            elif node.op == "call_function":
                self._values[node] = self._ruled(rules.get(operation_of(node), otherwise), node)
            elif node.op == "output":
                for read in node.all_input_nodes:
                    self.fix(self.of(read), BORDERS[1])
        self.settle()

    def _ruled(self, rule: Callable[[Walk, Any], Any], node: Any) -> Any:
        try:
            return rule(self, node)
        except (IndexError, RuntimeError, TypeError, ValueError):  # a use of the operation that the rule does not know
            for read in node.all_input_nodes:
                self.fix(self.of(read))
            return self.closed(node, self.reason)

    def _placed(self, node: Any) -> Any:
        if (name := self._names.get(node.name)) is not None:
            self.used |= {tied for tied in self._first if node.users and self.first(tied) == self.first(name)}
            name = self.first(name)
            if name not in self._starts:
                self._starts[name] = self._total
                self._total += self._tensors[name].numel()
            return Held((name,), self._starts[name], torch.empty(self._tensors[name].shape, device="meta"))
        return self.closed(node, BORDERS[0]) if is_tensor(node) else None

    # -- the conditions

    def settle(self) -> None:
        """Apply the conditions until nothing changes; channels that cannot meet one stay."""
        while self._joined() or self._narrowed():
            pass
        for condition in self.conditions:
            roots = self.labels.roots(condition.labels)
            if {*condition.dims} & {*varying(roots)}:
                self.labels.fix(condition.labels, condition.reason)
        for attachment in self.attachments:
            if not self._attached(attachment):
                self.labels.fix(attachment.labels, attachment.reason)
        for first, second, reason in self.broadcasts:
            if self._broadcast(first, second) is None:
                self.labels.fix(second, reason)
        for labels in self.single:
            if len(varying(self.labels.roots(labels))) > 1:
                self.labels.fix(labels, "its code rearranges them")

    def _joined(self) -> bool:
        changed = False
        for first, second, reason in self.broadcasts:
            if dims := self._broadcast(first, second):
                changed |= self.labels.join(first_along(first, dims), second, reason)
        for attachment in self.attachments:
            changed |= self._attached(attachment, join=True)
        return changed

    def _broadcast(self, first: torch.Tensor, second: torch.Tensor) -> tuple[int, ...] | None:
        # The dimensions along which `second` is broadcast, if the labels of `first` do not vary along them.
        dims = tuple(dim for dim, size in enumerate(second.shape) if size == 1 < first.shape[dim])
        return None if {*dims} & {*varying(self.labels.roots(first))} else dims

    def _narrowed(self) -> bool:
        # Labels that vary along several dimensions, as those of shuffled channels, are joined along all but one.
        for labels in self.single:
            roots = self.labels.roots(labels)
            if len(dims := varying(roots)) > 1:
                best = max(dims, key=lambda dim: distinct_after(roots, dim))
                flat = compressed(labels).movedim(best, 0).flatten(1)
                if self.labels.join(flat[:, :1], flat, "its code rearranges them"):
                    return True
        return False

    def _line(self, attachment: Attachment, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        # The labels along the one dimension of a whole tensor that labels vary along, and these.
        held, dims = attachment.held, varying(labels)
        order = held.order if len(dims) == 1 else None
        if order is None or (dim := dims[0] - labels.ndim + len(order)) < 0 or held.shape[dim] == 1:
            return None
        return self.axis(held.names[0], order[dim]), vector(labels, dims[0])

    def _attached(self, attachment: Attachment, *, join: bool = False) -> bool:
        # Slice a tensor along the dimension whose coordinate determines the label. True if it is, or has changed.
        labels, held = self.labels.roots(attachment.labels), attachment.held
        shape = [1] * (labels.ndim - len(held.shape)) + [*held.shape]
        if all(shape[dim] == 1 for dim in varying(labels)):
            return not join  # no channels, or broadcast along them
        if (line := self._line(attachment, labels)) is not None:
            return not join or self.labels.join(*line, attachment.reason)
        determined = [self._determined(name, at, there) for name, at, there in self._elements(held, shape, labels)]
        if None in determined:
            return False
        return not join or any(
            self.labels.join(axis, label, attachment.reason) for axis, label in filter(None, determined)
        )

    def _elements(
        self, held: Held, shape: Sequence[int], labels: torch.Tensor
    ) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
        # The position in every tensor of its elements, and their labels.
        positions, there = torch.broadcast_tensors(held.positions.reshape(shape), compressed(labels))
        for name in held.names:
            at = positions - self._starts[name]
            inside = (at >= 0) & (at < self._tensors[name].numel())
            yield name, at[inside], there[inside]

    def _determined(
        self, name: str, positions: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        # The labels along the dimension whose coordinate determines the label of every element, and these.
        for dim, size in enumerate(shape := self._tensors[name].shape):
            at, label = pairs(positions // math.prod(shape[dim + 1 :]) % size, labels)
            if size > 1 and len(at) == len(at.unique()):
                return self.axis(name, dim)[at], label
        return None


def tied_names(network: torch.nn.Module) -> dict[str, str]:
    """Return the name of every parameter and buffer -> one name of its tensor, that of a prunable weight if any."""
    names = {id(weight): name for name, weight in prunable_weights(network).items()}
    tensors = (*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False))
    return {name: names.setdefault(id(tensor), name) for name, tensor in tensors}


def operation_of(node: Any) -> str:
    """Return the name of a node's operation, without its overload."""
    schema = getattr(node.target, "_schema", None)
    return str(schema.name).removeprefix("aten::") if schema else str(getattr(node.target, "__name__", ""))


def is_node(value: Any) -> bool:
    """Return whether an argument is a node of a recorded program."""
    return hasattr(value, "all_input_nodes")


def is_tensor(node: Any) -> bool:
    """Return whether a node's result is a tensor."""
    return isinstance(node.meta.get("val"), torch.Tensor)


def shape_of(node: Any) -> tuple[int, ...]:
    """Return the shape of a node's tensor, of several the first."""
    value = node.meta["val"]
    return torch.Size((value[0] if isinstance(value, list | tuple) else value).shape)
