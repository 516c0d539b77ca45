"""The prunable weights of a network, by name, and the properties of the layers that hold them."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeAlias

from autosparse.core.inputs import Inputs, arguments, tensors_in
from autosparse.core.layer_kinds import PROJECTIONS, Kind, declared_of, joined, reading_of, weights_of
from autosparse.errors import UsageError
from autosparse.foreign_code import foreign_code
from autosparse.lazy_torch import torch

Tensors: TypeAlias = "dict[str, torch.Tensor]"


@dataclass(frozen=True)
class Layer:
    """One layer with a prunable weight, as seen in a forward pass.

    `shape` is the weight's, for layers other than torch's as [outputs, inputs] or `transposed`. `fan_in` and `fan_out`
    count the inputs one output reads and the outputs one input feeds. `positions` counts the uses of each weight for
    one example: the layer's multiply-adds (MACs) are `positions` times its kept weights.
    """

    name: str
    shape: tuple[int, ...]
    fan_in: int
    fan_out: int
    kernel: tuple[int, ...]
    stride: int
    positions: int
    groups: int = 1
    transposed: bool = False

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def inputs(self) -> int:
        """Number of inputs of a group, each with a kernel."""
        return self.shape[0] // self.groups if self.transposed else self.shape[1]

    def spread(self, tensor: torch.Tensor) -> torch.Tensor:
        """Reshape a tensor like the weight to `[groups, outputs, inputs, kernel]`, outputs and inputs of one group."""
        parts = tensor.reshape(self.groups, self.shape[0] // self.groups, self.shape[1], -1)
        return parts.transpose(1, 2) if self.transposed else parts

    def gather(self, parts: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        """Invert `spread`: return a tensor in the weight's shape."""
        return (parts.transpose(1, 2) if self.transposed else parts).reshape(shape)


def prunable_weights(model: torch.nn.Module) -> Tensors:
    """Return weights of convolutions, linear layers, attention and declared layers, name -> parameter, tied ones once.

    In model order, without frozen, parametrized and complex ones. `unprunable` gives the reason for each other
    parameter. Raises UsageError for a lazy layer that awaits its first batch.
    """
    for prefix, module in model.named_modules():
        if any(map(torch.nn.parameter.is_lazy, (*module._parameters.values(), *module._buffers.values()))):
            raise UsageError(
                f"layer `{prefix}` is lazy: it has no weights before its first batch",
                "run one batch through the model first",
            )
    weights: Tensors = {}
    seen: set[int] = set()
    for full, module, name, _ in weights_of(model):
        weight = module._parameters[name]
        assert weight is not None
        if weight.requires_grad and weight.is_floating_point() and id(weight) not in seen:
            seen.add(id(weight))
            weights[full] = weight
    return weights


def unprunable(model: torch.nn.Module) -> dict[str, str]:
    """Return every parameter that is not prunable under this name -> reason, in model order; packed weights too."""
    known = {id(weight): name for name, weight in prunable_weights(model).items()}
    excluded = declared_of(model).excluded
    layers = {full for full, *_ in weights_of(model)}
    reasons: dict[str, str] = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        if type(module).__module__.startswith("torch.ao.nn.quantized") and hasattr(module, "weight"):
            reasons[joined(prefix, "weight")] = "quantized"  # packed: no parameter has it
        for name, parameter in module._parameters.items():
            full = joined(prefix, name)
            if parameter is None or known.get(id(parameter)) == full:
                continue
            first = known.setdefault(id(parameter), full)
            if first != full:
                reasons[full] = f"tied to {first}"
            else:
                reasons[full] = EXCLUDED if full in excluded else _reason(module, name, parameter, full in layers)
    return reasons


EXCLUDED = "excluded"
_UNKNOWN = "of "
"""The start of the reason for a parameter that could be a layer's weight, of unknown kind."""
_MUCH = 0.1


def left_out(model: torch.nn.Module) -> str:
    """Return a warning if over a tenth of a network's parameters stays dense for no known reason, else nothing."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    reasons = {name: why for name, why in unprunable(model).items() if why.startswith(_UNKNOWN)}
    names = [name for name in reasons if name in parameters and parameters[name].ndim > 1]
    size = sum(parameters[name].numel() for name in names)
    total = total_of(dict(model.named_parameters()))
    if size <= _MUCH * total:
        return ""
    more = f" and {len(names) - 1} more" if names[1:] else ""
    return (
        f"{size / total:.0%} of the parameters are left whole: {names[0]}{more}, {reasons[names[0]]}; "
        f"`prunable: {{'{names[0]}': linear}}` (or transposed, embedding) declares a weight and its axes"
    )


def explain_unprunable(model: torch.nn.Module) -> str:
    """Return why a network has no prunable weight, in half a sentence: each reason with its first parameter."""
    names: dict[str, list[str]] = {}
    for name, reason in unprunable(model).items():
        names.setdefault(reason, []).append(name)
    reasons = [
        f"{reason} ({affected[0]}{f' and {len(affected) - 1} more' if affected[1:] else ''})"
        for reason, affected in names.items()
    ]
    return "; ".join(reasons) or "it has no parameters"


def describe_layers(model: torch.nn.Module, example: Inputs | None = None) -> tuple[Layer, ...]:
    """Return the layers of `prunable_weights`, in model order, measured by one forward pass of one example.

    `example` is an input batch of one, `[1, ...]`, or several inputs; without it, and for an unused layer, `positions`
    are 0. Attention projections in one weight count the mean of their positions.
    """
    weights = prunable_weights(model)
    names = {id(weight): name for name, weight in weights.items()}
    homes = {
        names[id(module._parameters[name])]: (module, kind)
        for _, module, name, kind in reversed([*weights_of(model)])
        if id(module._parameters[name]) in names
    }
    positions = dict.fromkeys(weights, 0) if example is None else _positions(model, names, example)
    return tuple(_layer(name, weight, *homes[name], positions[name]) for name, weight in weights.items())


@contextmanager
def in_mode(model: torch.nn.Module, *, training: bool) -> Iterator[None]:
    """Put the model in training or evaluation mode; restore the mode of every module afterwards."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode


def load_state(model: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """Load every parameter and buffer into a network, in place, and return it.

    Version and non-tensor parts of a module's state stay the network's present ones. Raises RuntimeError, as torch
    does, for a state of another network.
    """
    current = model.state_dict()
    whole: dict[str, Any] = {name: part for name, part in current.items() if not isinstance(part, torch.Tensor)}
    complete = OrderedDict(whole | dict(state))
    complete._metadata = getattr(current, "_metadata", {})  # type: ignore[attr-defined]
    model.load_state_dict(complete, strict=True)
    return model


def state_of(model: torch.nn.Module) -> Tensors:
    """Return a network's parameters and buffers by name, without other parts of a module's state."""
    return {name: part for name, part in model.state_dict().items() if isinstance(part, torch.Tensor)}


def keep_count(total: int, sparsity: float) -> int:
    """Return how many of `total` weights stay at a sparsity in [0, 1): the only conversion to a count."""
    return round((1 - sparsity) * total)


def sparsity_of(total: int, keep: int) -> float:
    """Return the sparsity with the fewest decimals at which exactly `keep` of `total` weights stay."""
    exact = 1 - keep / total
    return next((s for digits in range(1, 17) if keep_count(total, s := round(exact, digits)) == keep), exact)


def full_masks(weights: Mapping[str, torch.Tensor]) -> Tensors:
    """Return masks that keep every weight."""
    return {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}


def together(tensors: Mapping[str, torch.Tensor], work: Callable[[torch.Tensor], torch.Tensor]) -> Tensors:
    """Apply `work` to all values as one vector; return the result by name in the tensors' shapes."""
    made = work(torch.cat([tensor.flatten() for tensor in tensors.values()]))
    parts = made.split([tensor.numel() for tensor in tensors.values()])
    return {name: part.view(tensors[name].shape) for name, part in zip(tensors, parts, strict=True)}


def kept(masks: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Count the ones per layer."""
    return {name: int(mask.count_nonzero()) for name, mask in masks.items()}


def total_of(tensors: Mapping[str, torch.Tensor]) -> int:
    """Count the elements of all tensors."""
    return sum(tensor.numel() for tensor in tensors.values())


def _reason(module: torch.nn.Module, name: str, parameter: torch.Tensor, is_weight: bool) -> str:
    layers = torch.nn
    if is_weight:
        return "complex" if parameter.is_complex() else "frozen: requires_grad is False"
    if isinstance(module, layers.utils.parametrize.ParametrizationList):
        return "parametrized"
    if isinstance(module, layers.Linear | layers.modules.conv._ConvNd) and "weight" not in module._parameters:
        return "a bias" if name == "bias" else "parametrized"
    if isinstance(module, layers.RNNBase | layers.RNNCellBase):
        return "recurrent"
    norms = (layers.modules.batchnorm._NormBase, layers.LayerNorm, layers.GroupNorm, layers.RMSNorm)
    if isinstance(module, norms):
        return "normalization"
    if isinstance(module, layers.Embedding | layers.EmbeddingBag):
        return "an embedding"
    if name in ("bias", "in_proj_bias", "bias_k", "bias_v"):
        return "a bias"
    return f"{_UNKNOWN}{type(module).__name__}, which is neither a convolution nor a linear layer"


def _positions(model: torch.nn.Module, names: dict[int, str], example: Inputs) -> dict[str, int]:
    positions = dict.fromkeys(names.values(), 0)
    homes: dict[int, list[tuple[str, Kind | None]]] = {}
    for _, module, name, kind in weights_of(model):
        homes.setdefault(id(module), []).append((name, kind))

    def note(module: torch.nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        if isinstance(module, torch.nn.MultiheadAttention):
            uses = _attention_positions(module, inputs, named)
        elif any(kind is not None for _, kind in homes[id(module)]):
            uses = _declared_positions(module, homes[id(module)], output)
        else:
            # A weight is used once for every position of the output; in a transposed convolution, of the input.
            transposed = getattr(module, "transposed", False)
            values = (inputs[0] if inputs else named["input"]) if transposed else output
            channels = values.shape[1] if isinstance(module, torch.nn.modules.conv._ConvNd) else values.shape[-1]
            uses = {id(module.weight): values.numel() // channels}
        for weight, count in uses.items():
            if weight in names:
                positions[names[weight]] += count

    arguments_, named_arguments = arguments(example)
    with ExitStack() as hooks, in_mode(model, training=False), torch.no_grad(), without_fast_path():
        for module in model.modules():
            if id(module) in homes:
                hooks.enter_context(module.register_forward_hook(note, with_kwargs=True))
        with foreign_code(f"calling `{type(model).__name__}`", model):
            model(*arguments_, **named_arguments)
    return positions


_FAST_PATH = Lock()


@contextmanager
def without_fast_path() -> Iterator[None]:
    """Turn off the fast path of transformer layers, which calls none of their modules and zeroes padded positions.

    The switch is global: other threads wait.
    """
    with _FAST_PATH:
        before = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(before)


def _attention_positions(
    module: torch.nn.MultiheadAttention, inputs: tuple[Any, ...], named: dict[str, Any]
) -> dict[int, int]:
    # Attention applies its output layer's weight itself, so that layer is never called.
    given = {**named, **dict(zip(("query", "key", "value"), inputs, strict=False))}
    tokens = {name: given[name].numel() // given[name].shape[-1] for name in ("query", "key", "value")}
    counts = (sum(tokens.values()) // 3, *tokens.values())
    uses = {id(module.out_proj.weight): tokens["query"]}
    for name, count in zip(PROJECTIONS, counts, strict=True):
        uses[id(module._parameters[name])] = count
    return uses


def _declared_positions(
    module: torch.nn.Module, weights: Sequence[tuple[str, Kind | None]], output: Any
) -> dict[int, int]:
    # A weight is used once per token. Several layers in one tensor, such as experts, each take a share of the tokens.
    # An embedding multiplies nothing.
    first = next(tensors_in(output), None)
    tokens = 0 if first is None or first.ndim == 0 else first.numel() // first.shape[-1]
    uses: dict[int, int] = {}
    for name, kind in weights:
        weight = module._parameters[name]
        assert weight is not None
        _, groups, _ = reading_of(weight, module, kind)
        uses[id(weight)] = 0 if kind == "embedding" else max(1, tokens // groups)
    return uses


def _layer(name: str, weight: torch.Tensor, module: torch.nn.Module, kind: Kind | None, positions: int) -> Layer:
    shape, groups, transposed = reading_of(weight, module, kind)
    kernel = shape[2:]
    area = math.prod(kernel)
    strides = getattr(module, "stride", (1,)) if kind is None else (1,)
    # Weights are [outputs, inputs / groups, ...], those of transposed convolutions [inputs, outputs / groups, ...].
    outer, inner = shape[0] // groups * area, shape[1] * area
    fan_in, fan_out = (outer, inner) if transposed else (inner, outer)
    stride = max(strides) if isinstance(strides, tuple) else int(strides)
    return Layer(name, shape, fan_in, fan_out, kernel, stride, positions, groups, transposed)
