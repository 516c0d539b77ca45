"""The network inside what torch wraps around networks, and the names its parameters have there."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from typing import Any

from autosparse.errors import UsageError
from autosparse.foreign_code import in_short
from autosparse.lazy_torch import torch

_COMPILED = "_orig_mod"


def unwrap(model: torch.nn.Module) -> torch.nn.Module:
    """The network without torch.compile, DataParallel, DistributedDataParallel and AveragedModel around it.

    Raises UsageError for what is no module.
    """
    if not isinstance(model, torch.nn.Module):
        raise UsageError(
            f"the model must be a torch.nn.Module but is {_article(type(model).__name__)}", "pass the network itself"
        )
    parallel = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(model, (*parallel, torch.optim.swa_utils.AveragedModel)):
            model = model.module
        elif _COMPILED in model._modules:
            model = model.get_submodule(_COMPILED)
        else:
            return model


def named_parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Every parameter of an unwrapped network by every name it has, as if no part of it were compiled."""
    return {
        name.replace(f"{_COMPILED}.", ""): parameter
        for name, parameter in model.named_parameters(remove_duplicate=False)
    }


def copy_of(model: torch.nn.Module) -> torch.nn.Module:
    """A copy of an unwrapped network in which no part is compiled. Raises UsageError where torch cannot copy."""
    try:
        with _detaching():
            duplicate = copy.deepcopy(model)
    except Exception as error:  # whatever the modules inside raise
        raise UsageError(
            f"the model cannot be copied, and scoring never touches the original: {in_short(error)}",
            "remove from its modules what `copy.deepcopy` refuses",
        ) from error
    for module in [*duplicate.modules()]:
        for name, child in module._modules.items():
            if child is not None and _COMPILED in child._modules:
                module._modules[name] = child._modules[_COMPILED]
    from autosparse.core.torch_compat.narrow_stride_fix import avoid_narrow_strides

    return avoid_narrow_strides(duplicate)


def _detaching() -> AbstractContextManager[object]:
    # Activations that a module keeps, and what the older weight_norm computes, torch does not copy by itself.
    class Detaching(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is not torch.Tensor.__deepcopy__ or args[0].is_leaf:
                return function(*args, **(kwargs or {}))
            tensor, known = args
            known[id(tensor)] = tensor.detach().clone()
            return known[id(tensor)]

    return Detaching()


def _article(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
