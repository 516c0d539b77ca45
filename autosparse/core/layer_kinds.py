"""Layer weights: the parameters of modules that hold them, and the order of their axes.

torch's convolutions, linear layers and attention and Hugging Face's own layers are known; others are declared by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias

from autosparse.errors import UsageError
from autosparse.lazy_torch import torch
from autosparse.registry import suggestion

Kind: TypeAlias = Literal["linear", "transposed", "embedding"]
"""`linear` weights are [outputs, inputs], `transposed` ones [inputs, outputs], `embedding` ones [rows, features].

The first of three dimensions counts parallel layers, such as experts.
"""

PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
_DECLARED = "_autosparse_layers"


@dataclass(frozen=True)
class Declared:
    """A user's declaration of a network's parameters, by their full names."""

    kinds: Mapping[str, Kind] = field(default_factory=dict)
    excluded: frozenset[str] = frozenset()


def declare_layers(
    model: torch.nn.Module, prunable: Mapping[str, Kind] | None = None, exclude: Sequence[str] = ()
) -> torch.nn.Module:
    """Declare prunable and excluded parameters of a network, in addition to the known ones; return the network.

    Args:
        model: The network; copies of it carry the declaration.
        prunable: Names of parameters, or patterns such as `*.c_attn.weight` -> the order of their axes.
        exclude: Names, or patterns, of parameters to keep dense. A name may omit `.weight`.

    Raises:
        UsageError: For a pattern that matches no parameter, and for parameters of too few dimensions.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    kinds: dict[str, Kind] = {}
    for pattern, kind in (prunable or {}).items():
        for name in _matching(pattern, parameters, "prunable"):
            if parameters[name].ndim < 2:
                raise UsageError(
                    f"`prunable` names `{name}`, which has {parameters[name].ndim} dimension: a layer's weight has two "
                    "or more",
                    "name the weights alone, such as `*.c_attn.weight`",
                )
            kinds[name] = kind
    excluded = {name for pattern in exclude for name in _matching(pattern, parameters, "exclude")}
    if kinds or excluded:
        model.__dict__[_DECLARED] = Declared(kinds, frozenset(excluded))
    return model


def declared_of(model: torch.nn.Module) -> Declared:
    """Return the declaration of a network."""
    declared: Declared = model.__dict__.get(_DECLARED, Declared())
    return declared


def weights_of(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module, str, Kind | None]]:
    """Yield every weight of a layer, in model order: full name, module, the parameter's name there, kind.

    The kind is None for layers of torch. Excluded parameters are skipped; tied weights come once for each module.
    """
    declared = declared_of(model)
    for prefix, module in model.named_modules():
        kinds: dict[str, Kind | None] = {**_kinds_of(module)}
        for name in module._parameters:
            if kind := declared.kinds.get(joined(prefix, name)):
                kinds[name] = kind
        for name in (name for name in module._parameters if name in kinds):
            if module._parameters[name] is not None and joined(prefix, name) not in declared.excluded:
                yield joined(prefix, name), module, name, kinds[name]


def reading_of(weight: torch.Tensor, module: torch.nn.Module, kind: Kind | None) -> tuple[tuple[int, ...], int, bool]:
    """Return the axes of a weight: its shape, groups, and whether it is transposed.

    The shape is `[groups * outputs, inputs, ...]`, transposed `[groups * inputs, outputs, ...]`.
    """
    shape = tuple(weight.shape)
    if kind is None:
        return shape, int(getattr(module, "groups", 1)), bool(getattr(module, "transposed", False))
    # [outputs, ...inputs], or [groups, outputs, inputs] of several layers; reversed unless linear. XLNet attention
    # keeps its heads apart: there the first of three dimensions does not count layers.
    stacked = len(shape) == 3 and type(module).__name__ != "XLNetRelativeAttention"
    groups, first = shape[:2] if stacked else (1, shape[0])
    return (groups * first, math.prod(shape) // (groups * first)), groups, kind != "linear"


def matches(name: str, pattern: str) -> bool:
    """Return whether a parameter has this name, with or without `.weight`, or matches this pattern."""
    return any(
        pattern == candidate or fnmatchcase(candidate, pattern) for candidate in (name, name.removesuffix(".weight"))
    )


def joined(prefix: str, name: str) -> str:
    """Return the full name of a module's parameter."""
    return f"{prefix}.{name}" if prefix else name


def _kinds_of(module: torch.nn.Module) -> dict[str, Kind | None]:
    # A parametrized weight is computed at every use: it is not a parameter of the layer.
    if isinstance(module, torch.nn.MultiheadAttention):
        names: tuple[str, ...] = PROJECTIONS
    elif isinstance(module, torch.nn.Linear | torch.nn.modules.conv._ConvNd):
        names = ("weight",)
    else:
        return {**_of_transformers(module)}
    return {name: None for name in names if module._parameters.get(name) is not None}


def _of_transformers(module: torch.nn.Module) -> dict[str, Kind]:
    kind = type(module)
    if kind.__module__.partition(".")[0] != "transformers":
        return {}
    if kind.__name__ == "Conv1D":  # of GPT-2: x @ weight
        return {"weight": "transposed"}
    if kind.__name__ == "XLNetRelativeAttention":
        return {**dict.fromkeys(("q", "k", "v", "r"), "transposed"), "o": "linear"}
    up, down = (module._parameters.get(name) for name in ("gate_up_proj", "down_proj"))
    if kind.__name__.endswith("Experts") and up is not None and down is not None and up.ndim == down.ndim == 3:
        # [experts, outputs, inputs], or in some models [experts, inputs, outputs].
        way: Kind = "linear" if up.shape[2] == down.shape[1] and up.shape[1] == 2 * down.shape[2] else "transposed"
        return {"gate_up_proj": way, "down_proj": way}
    return {}


def _matching(pattern: str, parameters: Mapping[str, Any], option: str) -> list[str]:
    matched = [name for name in parameters if matches(name, pattern)]
    if not matched:
        known = [*parameters]
        hint = suggestion(pattern, known) or f"parameters: {', '.join(known[:6])}{', ...' * (len(known) > 6)}"
        raise UsageError(f"`{option}` names `{pattern}`, which no parameter matches", hint)
    return matched
