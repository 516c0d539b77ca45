"""Walk of a recorded network: the label of every channel, operation by operation.

A rule joins labels at once, or states a condition that must hold in the end: labels that do not vary along a dimension,
or a parameter that follows labels. `settle` applies the conditions until nothing changes. Labels that cannot meet a
condition stay, with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autosparse.core.graph.channel_labels import (
    Labels,
    compressed,
    constant,
    distinct_after,
    first_along,
    pairs,
    varying,
)
from autosparse.lazy_torch import torch

Axis = tuple[str, int]
"""A tensor's name and one of its dimensions."""


@dataclass(frozen=True)
class Held:
    """A parameter or buffer, or its elements in another order: their positions among all elements of all tensors."""

    positions: torch.Tensor


@dataclass(frozen=True)
class Condition:
    """Labels that must not vary along `dims`; or with `most`, that may vary along one dimension at most."""

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
        self.owners: list[tuple[str, torch.Tensor]] = []
        self.whole = whole
        signature = recorded.graph_signature
        self._names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self._constants = {**signature.inputs_to_lifted_tensor_constants}
        self._recorded = recorded
        self._tensors: dict[str, torch.Tensor] = {}
        first: dict[int, str] = {}
        for name, tensor in (
            *network.named_parameters(remove_duplicate=False),
            *network.named_buffers(remove_duplicate=False),
        ):
            self._tensors[name] = self._tensors[first.setdefault(id(tensor), name)] if id(tensor) in first else tensor
            first.setdefault(id(tensor), name)
        self._first = {name: first[id(tensor)] for name, tensor in self._tensors.items()}
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
        """The reason why channels stay that the present node reads."""
        name, module = operation_of(self._node), self.module
        return f"`{name}` in {module} reads all of them" if module else f"`{name}` reads all of them"

    @property
    def module(self) -> str:
        """The name of the innermost module whose code calls the present node."""
        stack = [*(self._node.meta.get("nn_module_stack") or {}).values()]
        return str(stack[-1][0]) if stack else ""

    def of(self, node: Any) -> Any:
        """Return the labels of a node's result: a tensor, a `Held`, a list of these, or None for no tensor."""
        return self._values.get(node)

    def activation(self, node: Any) -> torch.Tensor | None:
        """Return the labels of a computed tensor, also of one that holds parameters; None for anything else."""
        value = self.of(node)
        return constant(shape_of(node)) if isinstance(value, Held) else value

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

    def axis(self, name: str, dim: int) -> torch.Tensor:
        """Return the labels along a dimension of a parameter or buffer; tied ones share them."""
        key = self._first[name], dim
        if key not in self.axes:
            self.axes[key] = self.labels.new(self._tensors[name].shape[dim])
            if why := self.whole.get(key[0]):
                self.labels.fix(self.axes[key], why)
        return self.axes[key]

    def coordinates(self, held: Held) -> tuple[str, torch.Tensor] | None:
        """Return the tensor that all elements of `held` belong to, and their coordinates `[..., dims]` in it."""
        positions = held.positions
        low, high = int(positions.min()), int(positions.max())
        name = next(
            (one for one, start in self._starts.items() if start <= low < start + self._tensors[one].numel()), ""
        )
        if not name or high >= self._starts[name] + self._tensors[name].numel():
            return None
        return name, torch.stack(torch.unravel_index(positions - self._starts[name], self._tensors[name].shape), dim=-1)

    def weight(self, node: Any) -> tuple[str, tuple[int, ...]] | None:
        """Return the parameter that a layer's weight is and the order of its dimensions; None for a computed one.

        The weight may be transposed, or reshaped by dimensions of size 1.
        """
        held = self.of(node)
        if not isinstance(held, Held) or (known := self.coordinates(held)) is None:
            return None
        name, coordinates = known
        if held.positions.numel() != self._tensors[name].numel():
            return None
        order = []
        for dim, size in enumerate(held.positions.shape):
            line = first_along(coordinates, (other for other in range(held.positions.ndim) if other != dim))
            moving = line.reshape(size, -1).ne(line.reshape(size, -1)[:1]).any(dim=0).nonzero().flatten().tolist()
            if len(moving) > 1:
                return None
            order.append(moving[0] if moving else dim)
        return name, tuple(order)

    def fix(self, value: Any, reason: str | None = None) -> None:
        """Keep all channels of a value."""
        if isinstance(value, torch.Tensor):
            self.labels.fix(value, reason or self.reason)
        elif isinstance(value, Held):
            self.attachments.append(Attachment(value, constant(value.positions.shape), reason or self.reason))
        elif isinstance(value, list | tuple):
            for part in value:
                self.fix(part, reason)

    def require(self, labels: Any, dims: Sequence[int]) -> None:
        """Require labels that do not vary along some dimensions."""
        if isinstance(labels, torch.Tensor) and {dim % labels.ndim for dim in dims} & {*varying(labels)}:
            self.conditions.append(Condition(labels, tuple(dim % labels.ndim for dim in dims), self.reason))

    def attach(self, held: Any, labels: torch.Tensor) -> None:
        """Let the elements of a parameter or buffer follow labels of its shape, or of one that it broadcasts to."""
        if isinstance(held, Held):
            self.attachments.append(Attachment(held, labels, self.reason))

    def follow(self, name: str, dim: int, labels: torch.Tensor, *, reads: bool = False) -> None:
        """Join the labels along a dimension of a weight with those of channels."""
        self.labels.join(self.axis(name, dim), labels, self.reason)
        if reads:
            self.reads.add((self._first[name], dim))

    # -- the walk

    def walk(self, rules: Mapping[str, Callable[[Walk, Any], Any]], otherwise: Callable[[Walk, Any], Any]) -> None:
        """Label all nodes in the order of their computation, then settle the conditions."""
        for node in self._recorded.graph.nodes:
            self._node = node
            if node.op == "placeholder":
                self._values[node] = self._placed(node)
            elif node.op == "call_function":
                rule = rules.get(operation_of(node), otherwise)
                self._values[node] = rule(self, node)
            elif node.op == "output":
                for read in node.all_input_nodes:
                    self.fix(self.of(read), "they are the network's output")
        self.settle()

    def _placed(self, node: Any) -> Any:
        if (name := self._names.get(node.name)) is not None:
            name = self._first[name]
            if name not in self._starts:
                self._starts[name] = self._total
                self._total += self._tensors[name].numel()
            shape = self._tensors[name].shape
            return Held(torch.arange(self._tensors[name].numel()).view(shape) + self._starts[name])
        return constant(shape_of(node)) if is_tensor(node) else None

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
            if self._broadcast(first, second):
                changed |= self.labels.join(first_along(first, self._broadcast(first, second) or ()), second, reason)
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

    def _attached(self, attachment: Attachment, *, join: bool = False) -> bool:
        # Slice a tensor along the dimension whose coordinate determines the label. True if it is, or has changed.
        labels = self.labels.roots(attachment.labels)
        held = attachment.held.positions
        if len(dims := varying(labels)) == 0:
            return not join
        positions = held.reshape([1] * (labels.ndim - held.ndim) + [*held.shape])
        if all(positions.shape[dim] == 1 for dim in dims):
            return not join  # broadcast along the channels
        if (known := self.coordinates(Held(positions))) is None:
            return False
        name, coordinates = known
        there = compressed(labels)
        there = torch.broadcast_to(there, torch.broadcast_shapes(there.shape, positions.shape))
        coordinates = coordinates.expand(*there.shape, coordinates.shape[-1])
        for dim in range(coordinates.shape[-1]):
            at, label = pairs(coordinates[..., dim], there)
            if self._tensors[name].shape[dim] > 1 and len(at) == len(at.unique()):
                return not join or self.labels.join(self.axis(name, dim)[at], label, attachment.reason)
        return False


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
    """Return the shape of a node's tensor."""
    return torch.Size(node.meta["val"].shape)
