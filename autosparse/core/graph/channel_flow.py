"""Channel flow: a channel is constant for every input, or it carries values that later layers need.

The network is read as `torch.export` records it. Channels that are computed from one another by position (a sum's, a
normalization's) form one *unit*: they stay together.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from autosparse.borders import border, refusal
from autosparse.core.graph.channel_walk import is_node, operation_of, shape_of
from autosparse.core.inputs import Inputs, arguments
from autosparse.foreign_code import printing_to_stderr
from autosparse.lazy_torch import torch

# Elementwise functions: a call on a constant computes their constant output.
POINTWISE = (
    "relu", "relu6", "hardtanh", "hardswish", "hardsigmoid", "silu", "sigmoid", "tanh", "gelu", "leaky_relu", "elu",
    "selu", "celu", "mish", "softplus", "softsign", "logsigmoid", "clamp", "clamp_min", "clamp_max",
    "abs", "neg", "exp", "sqrt", "rsqrt",
)  # fmt: skip
_SAME = ("clone", "contiguous", "alias", "detach", "_to_copy", "dropout")  # in evaluation mode
AVERAGES = ("avg_pool1d", "avg_pool2d", "avg_pool3d")
POOLS = (
    "max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
    "adaptive_avg_pool3d", "_adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d",
)  # fmt: skip
_RESHAPES = ("view", "reshape", "_unsafe_view", "flatten", "squeeze")
_CONVOLUTIONS = {"conv1d": 1, "conv2d": 2, "conv3d": 3}


@dataclass(frozen=True)
class Value:
    """A tensor that the network computes, channel by channel along dimension `dim`."""

    units: torch.Tensor
    """`[channels]`, the unit of each"""
    constant: torch.Tensor
    """`[channels]` float64, the value if it is the same for every input and position, else NaN"""
    dim: int

    @property
    def varies(self) -> torch.Tensor:
        return self.constant.isnan()


@dataclass(frozen=True)
class Reader:
    """A convolution or linear layer: the module that holds its weight, its input and its output.

    `padded`: zeros surround its input, so that a constant channel is not constant at the border.
    """

    module: str
    weight: torch.Tensor
    bias: torch.Tensor | None
    reads: Value
    gives: Value
    padded: bool


@dataclass
class ChannelFlow:
    """The channel flow of a network: layers that mix channels, layers that follow them, and units that must stay.

    `followers` are modules with a scalar or a kernel per channel, a normalization or a depthwise convolution.
    `normalized` are pairs of modules: a mixing or depthwise layer, and the normalization that alone reads its output.
    """

    readers: list[Reader] = field(default_factory=list)
    followers: list[tuple[str, Value]] = field(default_factory=list)
    normalized: list[tuple[str, str]] = field(default_factory=list)
    fixed: set[int] = field(default_factory=set)
    parents: list[int] = field(default_factory=list)

    def root(self, unit: int) -> int:
        """Return the representative of a unit among the units joined with it."""
        while self.parents[unit] != unit:
            self.parents[unit] = self.parents[self.parents[unit]]
            unit = self.parents[unit]
        return unit

    def new(self, count: int) -> torch.Tensor:
        """Create `count` new units."""
        first = len(self.parents)
        self.parents += range(first, first + count)
        return torch.arange(first, first + count)

    def join(self, first: torch.Tensor, second: torch.Tensor) -> None:
        """Join units, pair by pair."""
        for one, other in zip(first.tolist(), second.tolist(), strict=True):
            self.parents[self.root(one)] = self.root(other)

    def keep(self, value: Value | None) -> None:
        """Keep all units of a value, whose readers are unknown."""
        if value is not None:
            self.fixed.update(value.units.tolist())


def find_channels(network: torch.nn.Module, example: Inputs, *, through_views: bool = True) -> ChannelFlow:
    """Read a network in evaluation mode, `example` being a batch of inputs.

    Operations without a rule here keep every channel of their inputs and outputs. So do reshapes without
    `through_views`: code may hard-code sizes. Raises ValueError for a network that `torch.export` cannot record.
    """
    with border(refusal("torch.export does not record it")), printing_to_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of attributes that the network's code sets, such as an LSTM's
        recorded = torch.export.export(network, *arguments(example)).run_decompositions({})
    return _Walk(network, recorded, _RESHAPES if through_views else ()).walk()


class _Walk:
    def __init__(self, network: torch.nn.Module, recorded: Any, views: Sequence[str]) -> None:
        self.views = views
        self.modules = dict(network.named_modules(remove_duplicate=False))
        signature = recorded.graph_signature
        self.names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.tensors: dict[str, torch.Tensor] = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        self.nodes = list(recorded.graph.nodes)
        self.flow = ChannelFlow()
        self.values: dict[Any, Value | None] = {}
        self.layers: dict[Any, str] = {}  # node -> the module whose weight computes it

    def walk(self) -> ChannelFlow:
        for node in self.nodes:
            if node.op not in ("call_function", "output"):
                continue
            self.values[node] = self._value(node) if node.op == "call_function" else None
            if self.values[node] is None:
                for read in node.all_input_nodes:
                    self.flow.keep(self.values.get(read))
        return self.flow

    def _value(self, node: Any) -> Value | None:
        operation = operation_of(node)
        if operation in _CONVOLUTIONS or operation == "linear":
            return self._read(node, operation)
        if operation == "_native_batch_norm_legit_no_training":
            return self._normalized(node)
        if operation == "getitem":
            return self.values.get(node.args[0]) if node.args[1] == 0 else None
        if operation in ("add", "mul", "sub", "div"):
            return self._combined(node, operation)
        if operation == "cat":
            return self._concatenated(node)
        source = self.values.get(node.args[0]) if node.args else None
        return None if source is None else self._passed(node, operation, source)

    def _passed(self, node: Any, operation: str, source: Value) -> Value | None:
        if operation in _SAME:
            return source
        if operation in POINTWISE:
            constant = node.target(source.constant, *node.args[1:], **node.kwargs)
            return Value(source.units, constant.double(), source.dim)
        if operation in POOLS:
            return source if source.dim == 1 else None
        if operation in AVERAGES:
            padded = any(node.args[3]) if len(node.args) > 3 else False
            return Value(source.units, _zero_or_unknown(source.constant) if padded else source.constant, source.dim)
        if operation == "mean" and len(node.args) > 1:
            return _averaged(source, node)
        if operation in self.views:
            return _reshaped(source, shape_of(node.args[0]), shape_of(node))
        if operation == "permute":
            order = [axis % len(node.args[1]) for axis in node.args[1]]
            return Value(source.units, source.constant, order.index(source.dim))
        if operation == "slice":
            along = (node.args[1] if len(node.args) > 1 else 0) % len(shape_of(node))
            return source if along != source.dim else None
        return None

    def _read(self, node: Any, operation: str) -> Value | None:
        read, held = node.args[0], node.args[1]
        module, weight = self._held(held, (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d))
        groups = node.args[6] if len(node.args) > 6 else 1
        given = node.args[2] if len(node.args) > 2 else None
        if weight is None or not self._is(given, f"{module}.bias"):
            return None
        self.layers[node] = module
        bias = None if given is None else self.tensors[f"{module}.bias"].detach()
        dims = _CONVOLUTIONS.get(operation)
        padding = node.args[4] if dims is not None and len(node.args) > 4 else ()
        padded = padding != "valid" if isinstance(padding, str) else any(padding)
        dim = 1 if dims else len(shape_of(read)) - 1
        source = self.values.get(read)
        if source is not None and source.dim != dim:
            return None
        if groups != 1:
            if source is None or not groups == len(source.units) == len(weight):
                return None
            return self._depthwise(module, weight, bias, source, padded=padded)
        if source is None:  # the network's input, or an unknown value
            units = self.flow.new(weight.shape[1])
            self.flow.fixed.update(units.tolist())
            source = Value(units, torch.full((weight.shape[1],), math.nan, dtype=torch.float64), dim)
        gives = Value(self.flow.new(weight.shape[0]), _mixed(weight, bias, source, padded=padded), dim)
        self.flow.readers.append(Reader(module, weight, bias, source, gives, padded))
        return gives

    def _depthwise(
        self, module: str, weight: torch.Tensor, bias: torch.Tensor | None, source: Value, *, padded: bool
    ) -> Value:
        known = _zero_or_unknown(source.constant) if padded else source.constant
        constant = weight.double().flatten(1).sum(dim=1) * known
        constant = constant.where((weight != 0).flatten(1).any(dim=1), 0.0)
        value = Value(source.units, constant + (0 if bias is None else bias.double()), source.dim)
        self.flow.followers.append((module, value))
        return value

    def _normalized(self, node: Any) -> Value | None:
        source, (scale, shift, mean, variance) = self.values.get(node.args[0]), node.args[1:5]
        module, held = self._held(mean, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d))
        parts = {"running_var": variance, "weight": scale, "bias": shift}
        if source is None or source.dim != 1 or held is None or variance is None:
            return None
        if not all(self._is(given, f"{module}.{part}") for part, given in parts.items()):
            return None
        statistics = {
            part: self.tensors[f"{module}.{part}"].detach() for part, given in parts.items() if given is not None
        }
        constant = (source.constant - held.double()) * (statistics["running_var"].double() + node.args[6]).rsqrt()
        constant = constant * statistics.get("weight", torch.ones(())) + statistics.get("bias", torch.zeros(()))
        value = Value(source.units, constant, 1)
        self.flow.followers.append((module, value))
        if len(node.args[0].users) == 1 and (layer := self.layers.get(node.args[0])):
            self.flow.normalized.append((layer, module))
        return value

    def _combined(self, node: Any, operation: str) -> Value | None:
        first, second = (self.values.get(arg) if is_node(arg) else None for arg in node.args[:2])
        if first is not None and not is_node(node.args[1]):  # with a scalar
            constant = node.target(first.constant, node.args[1], **node.kwargs)
            return Value(first.units, constant.double(), first.dim)
        if first is None or second is None or operation not in ("add", "mul") or node.kwargs:
            return None
        shapes = [shape_of(arg) for arg in node.args[:2]]
        if len(shapes[0]) != len(shapes[1]) or first.dim != second.dim or len(first.units) != len(second.units):
            return None
        self.flow.join(first.units, second.units)
        constant = first.constant + second.constant
        if operation == "mul":
            nothing = (first.constant == 0) | (second.constant == 0)
            constant = (first.constant * second.constant).where(~nothing, 0.0)
        return Value(second.units, constant, first.dim)

    def _concatenated(self, node: Any) -> Value | None:
        parts = [self.values.get(part) for part in node.args[0]]
        dim = (node.args[1] if len(node.args) > 1 else 0) % len(shape_of(node))
        known = [part for part in parts if part is not None and part.dim == dim]
        if len(known) < len(parts):
            return None
        return Value(torch.cat([part.units for part in known]), torch.cat([part.constant for part in known]), dim)

    def _held(self, node: Any, kinds: tuple[type, ...]) -> tuple[str, torch.Tensor | None]:
        # The module that a tensor belongs to, and the tensor if that module alone uses it, once.
        name = self.names.get(node.name, "")
        module = name.rpartition(".")[0]
        if not isinstance(self.modules.get(module), kinds) or len(node.users) != 1:
            return module, None
        return module, self.tensors[name].detach()

    def _is(self, node: Any, name: str) -> bool:
        # True if a node is absent or the tensor of that name, not another or a computed one.
        return node is None or self.names.get(node.name) == name


def _connects(weight: torch.Tensor) -> torch.Tensor:
    # `[outputs, inputs]`, True if any weight between the two is nonzero.
    return (weight.flatten(2) if weight.ndim > 2 else weight.unsqueeze(2)).ne(0).any(dim=2)


def _mixed(weight: torch.Tensor, bias: torch.Tensor | None, source: Value, *, padded: bool) -> torch.Tensor:
    # A layer's output if its inputs are constant; zero padding around a nonzero constant makes the output vary.
    uncertain = source.varies | ((source.constant != 0) & padded)
    summed = weight.double().flatten(2).sum(dim=2) if weight.ndim > 2 else weight.double()
    constant = summed @ source.constant.where(~uncertain, 0.0) + (0 if bias is None else bias.double())
    return constant.where(~(_connects(weight) & uncertain).any(dim=1), math.nan)


def _zero_or_unknown(constant: torch.Tensor) -> torch.Tensor:
    return constant.where(constant == 0, math.nan)


def _averaged(source: Value, node: Any) -> Value | None:
    rank = len(shape_of(node.args[0]))
    along = {dim % rank for dim in node.args[1]}
    if source.dim in along:
        return None
    kept = len(node.args) > 2 and node.args[2]
    return Value(
        source.units, source.constant, source.dim if kept else source.dim - sum(dim < source.dim for dim in along)
    )


def _reshaped(source: Value, before: Sequence[int], after: Sequence[int]) -> Value | None:
    # Channels that keep their dimension next to those of size 1, or positions that become channels, grouped by channel.
    if list(before) == list(after):
        return source
    if source.dim != 1 or len(after) < 2 or before[0] != after[0]:
        return None
    if before[1] == after[1] and math.prod(before[2:]) == math.prod(after[2:]):
        return source
    if len(after) == 2:
        positions = math.prod(before[2:])
        return Value(source.units.repeat_interleave(positions), source.constant.repeat_interleave(positions), 1)
    return None


def kept_units(flow: ChannelFlow, multiple: int = 1) -> tuple[torch.Tensor, dict[int, int]]:
    """Return the units that stay, bool `[units]`, and by reader index the input channel that represents its constants.

    Dead channels stay where they fill a layer's number of channels up to a multiple. The bias of a zero-padded layer
    cannot absorb a nonzero constant: there one channel represents all of them, with their weights summed.
    """
    roots = torch.tensor([flow.root(unit) for unit in range(len(flow.parents))], dtype=torch.int64)
    kept = torch.zeros(len(flow.parents), dtype=torch.bool)
    kept[roots[list(flow.fixed)]] = True
    readers = [(r, _connects(r.weight), roots[r.reads.units], roots[r.gives.units]) for r in flow.readers]
    stand: dict[int, int] = {}
    count = -1
    while count != (count := int(kept.count_nonzero())):  # until convergence
        for index, (reader, connects, sources, results) in reversed([*enumerate(readers)]):
            reads = reader.reads
            rows = kept[results] & reader.gives.varies
            used = connects[rows].any(dim=0)
            kept[sources[used & reads.varies]] = True
            if reader.padded and index not in stand and bool((used & ~reads.varies & (reads.constant != 0)).any()):
                size = reads.constant.abs().where(used & ~reads.varies, -1.0)
                there = size.where(kept[sources], -1.0)
                stand[index] = int((there if bool((there > 0).any()) else size).argmax())
                kept[sources[stand[index]]] = True
        for _, _, sources, results in readers:  # a layer needs at least one channel
            for units in (sources, results):
                if not bool(kept[units].any()):
                    kept[units[0]] = True
    for _, _, _, results in readers:
        dead = results[~kept[results]]
        kept[dead[: -int(kept[results].count_nonzero()) % multiple]] = True
    return kept[roots], stand
