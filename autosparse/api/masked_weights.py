"""Weights that masks name, in networks with compiled parts, parametrizations and sharded parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain
from types import SimpleNamespace
from typing import Any

from autosparse.lazy_torch import torch

COMPILED = "_orig_mod"
"""Attribute of the network inside torch.compile."""


def find_weights(
    model: torch.nn.Module, masks: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.nn.Parameter], list[str]]:
    """Find the parameters of masks in a network.

    Args:
        model: Unwrapped network.
        masks: Name -> bool tensor of the weight's shape, True for kept weights.

    Returns:
        Name -> parameter, and the problems in words. The parameter of a parametrized weight is the one of its shape
        that it is computed from.
    """
    weights: dict[str, torch.nn.Parameter] = {}
    problems: list[str] = []
    for name, mask in masks.items():
        parameter = weight_at(model, name, mask.shape)
        if parameter is None:
            problems.append(f"it has no parameter {name}")
        elif torch.nn.parameter.is_lazy(parameter):
            problems.append(f"{name} is lazy: it has no shape before its first batch")
        elif parameter.shape != mask.shape:
            problems.append(f"{name} is {tuple(parameter.shape)} and its mask {tuple(mask.shape)}")
        elif problem := loses_zeros(model, name, ~mask):
            problems.append(problem)
        else:
            weights[name] = parameter
    return weights, problems


def sharded_weight(model: torch.nn.Module) -> str:
    """Return the first module or parameter that FSDP sharded over processes, or nothing.

    Args:
        model: Network.

    Returns:
        Its name.
    """
    fsdp = (name for name, module in model.named_modules() if type(module).__name__ == "FullyShardedDataParallel")
    weights = (name for name, weight in model.named_parameters() if hasattr(weight, "placements"))
    return next((name or "the model" for name in chain(fsdp, weights)), "")


def home_of(model: torch.nn.Module, name: str) -> tuple[torch.nn.Module | None, str]:
    """Return the module that a parameter's name leads to.

    Args:
        model: Network.
        name: Name of the parameter, without the prefixes of compiled parts.

    Returns:
        The module, None if it is missing, and the parameter's name in it.
    """
    path, _, leaf = name.rpartition(".")
    try:
        module = model.get_submodule(path)  # passes through compiled parts
    except AttributeError:
        return None, leaf
    return module._modules.get(COMPILED) or module, leaf


def weight_at(model: torch.nn.Module, name: str, shape: torch.Size) -> torch.nn.Parameter | None:
    """Return the parameter of a name, or the one that a parametrized weight of this name is computed from.

    Args:
        model: Network.
        name: Name of the parameter, without the prefixes of compiled parts.
        shape: Shape of the weight, which the direction of weight_norm has, and its length lacks.

    Returns:
        The parameter; None if the network lacks it, or has a plain tensor there during a functional call.
    """
    module, leaf = home_of(model, name)
    if module is None:
        return None
    if leaf in module._parameters:
        known = module._parameters[leaf]
        return known if isinstance(known, torch.nn.Parameter) else None
    candidates: list[torch.nn.Parameter | None]
    if (parametrization := parametrization_at(module, leaf)) is not None:
        candidates = [*parametrization.parameters(recurse=False)]
    elif leaf not in vars(module):
        return None
    else:  # the older weight_norm and spectral_norm
        candidates = [module._parameters.get(f"{leaf}_{end}") for end in ("orig", "v")]
    matching = [one for one in candidates if isinstance(one, torch.nn.Parameter) and one.shape == shape]
    return matching[-1] if matching else None


def parametrization_at(model: torch.nn.Module, name: str) -> torch.nn.utils.parametrize.ParametrizationList | None:
    """Return the parametrization of a weight; None if it has none.

    Args:
        model: Network.
        name: Name of the weight, without the prefixes of compiled parts.
    """
    module, leaf = home_of(model, name)
    known: Any = module and module._modules.get("parametrizations")
    return known[leaf] if known and leaf in known else None


def older_norm_at(model: torch.nn.Module, name: str) -> Any:
    """Return the hook of the older weight_norm or spectral_norm that computes a weight; None if it has none.

    Args:
        model: Network.
        name: Name of the weight, without the prefixes of compiled parts.
    """
    module, leaf = home_of(model, name)
    hooks = () if module is None else module._forward_pre_hooks.values()
    kinds = ("WeightNorm", "SpectralNorm")
    return next((one for one in hooks if type(one).__name__ in kinds and getattr(one, "name", "") == leaf), None)


def loses_zeros(model: torch.nn.Module, name: str, pruned: torch.Tensor) -> str:
    """Return why the parametrization of a weight cannot keep pruned weights zero, or nothing.

    Args:
        model: Network.
        name: Name of the weight, without the prefixes of compiled parts.
        pruned: Bool tensor of its shape, True for pruned weights.

    Returns:
        The problem in words.
    """
    parametrization, older = parametrization_at(model, name), older_norm_at(model, name)
    compute: Callable[[], torch.Tensor]
    originals: list[torch.Tensor]
    if parametrization is not None:
        compute = parts = copy.deepcopy(parametrization)
        originals = [*parts.parameters(recurse=False)]
        kinds = ", ".join(type(part).__name__.lstrip("_") for part in parts)
    elif older is not None:
        home, leaf = home_of(model, name)
        assert home is not None
        named = chain(home.named_parameters(recurse=False), home.named_buffers(recurse=False))
        tensors = {key: one.detach().clone() for key, one in named}
        options = {"do_power_iteration": False} if type(older).__name__ == "SpectralNorm" else {}
        compute = partial(older.compute_weight, SimpleNamespace(**tensors), **options)
        originals = [tensors[key] for end in ("orig", "v") if (key := f"{leaf}_{end}") in tensors]
        kinds = type(older).__name__
    else:
        return ""
    original = [one for one in originals if one.shape == pruned.shape][-1]
    noise = torch.randn(original.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # other values than now: an orthogonal weight begins with the zeros of the plain one
        original.add_(noise.to(original).abs().copysign(original)).masked_fill_(pruned.to(original.device), 0)
        weight = compute()
    if weight.isfinite().all() and not weight[pruned.to(weight.device)].any():
        return ""
    return f"its parametrization of {name}, {kinds}, does not keep pruned weights zero and all others finite"
