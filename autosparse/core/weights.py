"""The prunable weights of a network, by name, and what is known of the layers that hold them."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from autosparse.core.foreign_code import foreign_code
from autosparse.core.inputs import Inputs, arguments
from autosparse.errors import UsageError
from autosparse.lazy import torch

Tensors: TypeAlias = "dict[str, torch.Tensor]"


@dataclass(frozen=True)
class Layer:
    """One layer with a prunable weight, as met in a forward pass.

    `shape` is the weight's; `fan_in` and `fan_out` count the inputs one output reads and the outputs one
    input feeds; `positions` is how often each weight is used for one example, so that the layer's
    multiply-adds (MACs) are `positions` times its kept weights.
    """

    name: str
    shape: tuple[int, ...]
    fan_in: int
    fan_out: int
    kernel: tuple[int, ...]
    stride: int
    positions: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def prunable_weights(model: torch.nn.Module) -> Tensors:
    """Weights of convolutions, linear layers and attention, name -> parameter, in model order, tied ones once.

    Those that train: a frozen, parametrized or complex one is left out. `unprunable` tells the others. Raises
    UsageError when a layer waits for its first batch to be built.
    """
    weights: Tensors = {}
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        if any(map(torch.nn.parameter.is_lazy, (*module._parameters.values(), *module._buffers.values()))):
            raise UsageError(
                f"layer `{prefix}` is built when it meets its first batch", "run one batch through the model first"
            )
        for name in _prunable_names(module):
            weight = module._parameters[name]
            assert weight is not None
            if _trains(weight) and id(weight) not in seen:
                seen.add(id(weight))
                weights[_joined(prefix, name)] = weight
    return weights


def unprunable(model: torch.nn.Module) -> dict[str, str]:
    """Every parameter that is not prunable under this name -> why, in model order; packed weights too."""
    known = {id(weight): name for name, weight in prunable_weights(model).items()}
    reasons: dict[str, str] = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        if type(module).__module__.startswith("torch.ao.nn.quantized") and hasattr(module, "weight"):
            reasons[_joined(prefix, "weight")] = "quantized"  # packed: no parameter has it
        for name, parameter in module._parameters.items():
            full = _joined(prefix, name)
            if parameter is None or known.get(id(parameter)) == full:
                continue
            first = known.setdefault(id(parameter), full)
            reasons[full] = _reason(module, name, parameter) if first == full else f"tied to {first}"
    return reasons


def explain_unprunable(model: torch.nn.Module) -> str:
    """Why nothing of a network is prunable, in half a sentence: each reason with the first name it holds for."""
    names: dict[str, list[str]] = {}
    for name, reason in unprunable(model).items():
        names.setdefault(reason, []).append(name)
    told = [
        f"{reason} ({found[0]}{f' and {len(found) - 1} more' if found[1:] else ''})" for reason, found in names.items()
    ]
    return "; ".join(told) or "it has no parameters"


def describe_layers(model: torch.nn.Module, example: Inputs | None = None) -> tuple[Layer, ...]:
    """The layers of `prunable_weights`, in model order, measured by one forward pass of one example.

    `example` is an input batch of one, `[1, ...]`, or several inputs; without it nothing runs and `positions`
    are 0, as they are for a layer that takes no part. Projections of attention that are one weight count
    their mean position. The model is left as it was.
    """
    weights = prunable_weights(model)
    names = {id(weight): name for name, weight in weights.items()}
    homes = {
        names[id(module._parameters[name])]: module
        for module in reversed([*model.modules()])
        for name in _prunable_names(module)
        if id(module._parameters[name]) in names
    }
    positions = dict.fromkeys(weights, 0) if example is None else _positions(model, names, example)
    return tuple(_layer(name, weight, homes[name], positions[name]) for name, weight in weights.items())


@contextmanager
def in_mode(model: torch.nn.Module, *, training: bool) -> Iterator[None]:
    """The model in training or evaluation mode; afterwards every module is in the mode it had."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode


def load_state(model: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """Load every parameter and buffer into a network, in place, and return it.

    Tensors alone do not say which version of a module's state they are, as torch's own state dicts do: it is the
    network's present one. So is what a module adds to its state that is no tensor. Raises RuntimeError, as torch does,
    for a state of another network.
    """
    own = model.state_dict()
    whole: dict[str, Any] = {name: part for name, part in own.items() if not isinstance(part, torch.Tensor)}
    complete = OrderedDict(whole | dict(state))
    complete._metadata = getattr(own, "_metadata", {})  # type: ignore[attr-defined]
    model.load_state_dict(complete, strict=True)
    return model


def state_of(model: torch.nn.Module) -> Tensors:
    """Return a network's parameters and buffers by name; what a module's state holds besides is left out."""
    return {name: part for name, part in model.state_dict().items() if isinstance(part, torch.Tensor)}


def keep_count(total: int, sparsity: float) -> int:
    """How many of `total` weights stay at a sparsity in [0, 1): the one place where it becomes a count."""
    return round((1 - sparsity) * total)


def sparsity_of(total: int, keep: int) -> float:
    """The sparsity with the fewest decimals at which exactly `keep` of `total` weights stay."""
    exact = 1 - keep / total
    return next((s for digits in range(1, 17) if keep_count(total, s := round(exact, digits)) == keep), exact)


def total_of(tensors: Mapping[str, torch.Tensor]) -> int:
    """How many numbers the tensors hold together."""
    return sum(tensor.numel() for tensor in tensors.values())


_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


def _prunable_names(module: torch.nn.Module) -> list[str]:
    # A parametrized weight is computed anew at every use: it is no parameter of the layer.
    if isinstance(module, torch.nn.MultiheadAttention):
        names: tuple[str, ...] = _PROJECTIONS
    elif isinstance(module, torch.nn.Linear | torch.nn.modules.conv._ConvNd):
        names = ("weight",)
    else:
        return []
    return [name for name in names if module._parameters.get(name) is not None]


def _trains(weight: torch.Tensor) -> bool:
    return weight.requires_grad and weight.is_floating_point()


def _reason(module: torch.nn.Module, name: str, parameter: torch.Tensor) -> str:
    layers = torch.nn
    if name in _prunable_names(module):
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
    return f"of {type(module).__name__}, which is no convolution and no linear layer"


def _positions(model: torch.nn.Module, names: dict[int, str], example: Inputs) -> dict[str, int]:
    positions = dict.fromkeys(names.values(), 0)

    def note(module: torch.nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        if isinstance(module, torch.nn.MultiheadAttention):
            uses = _attention_positions(module, inputs, named)
        else:
            # A weight is used once for every place of the output; of a transposed convolution, of the input.
            transposed = getattr(module, "transposed", False)
            places = (inputs[0] if inputs else named["input"]) if transposed else output
            channels = places.shape[1] if isinstance(module, torch.nn.modules.conv._ConvNd) else places.shape[-1]
            uses = {id(module.weight): places.numel() // channels}
        for weight, count in uses.items():
            if weight in names:
                positions[names[weight]] += count

    hooks = [
        module.register_forward_hook(note, with_kwargs=True) for module in model.modules() if _prunable_names(module)
    ]
    arguments_, named_arguments = arguments(example)
    fast = torch.backends.mha.get_fastpath_enabled()
    # The fast path of transformer layers calls none of the modules inside.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with in_mode(model, training=False), torch.no_grad(), foreign_code(f"calling `{type(model).__name__}`", model):
            model(*arguments_, **named_arguments)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for hook in hooks:
            hook.remove()
    return positions


def _attention_positions(
    module: torch.nn.MultiheadAttention, inputs: tuple[Any, ...], named: dict[str, Any]
) -> dict[int, int]:
    # Attention applies its output layer's weight itself, so that layer is never called.
    given = {**named, **dict(zip(("query", "key", "value"), inputs, strict=False))}
    tokens = {name: given[name].numel() // given[name].shape[-1] for name in ("query", "key", "value")}
    counts = (sum(tokens.values()) // 3, *tokens.values())
    uses = {id(module.out_proj.weight): tokens["query"]}
    for name, count in zip(_PROJECTIONS, counts, strict=True):
        uses[id(module._parameters[name])] = count
    return uses


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _layer(name: str, weight: torch.Tensor, module: torch.nn.Module, positions: int) -> Layer:
    shape = tuple(weight.shape)
    kernel = shape[2:]
    area = math.prod(kernel)
    strides = getattr(module, "stride", (1,))
    # Weights are [outputs, inputs / groups, ...], those of transposed convolutions [inputs, outputs / groups, ...].
    outer, inner = shape[0] // getattr(module, "groups", 1) * area, shape[1] * area
    fan_in, fan_out = (outer, inner) if getattr(module, "transposed", False) else (inner, outer)
    return Layer(
        name=name,
        shape=shape,
        fan_in=fan_in,
        fan_out=fan_out,
        kernel=kernel,
        stride=max(strides) if isinstance(strides, tuple) else int(strides),
        positions=positions,
    )
