"""All parameters of a network in training as views of one vector, and their masks as another."""

from __future__ import annotations

from collections.abc import Mapping

from autosparse.core.torch_compat.memory_layout import flattened, in_shape
from autosparse.core.weights import prunable_weights
from autosparse.lazy_torch import torch


def flatten_parameters(model: torch.nn.Module, *, channels_last: bool) -> torch.nn.Parameter:
    """Return one vector of all trained parameters, which become views of it, as their gradients of its gradient.

    The optimizer, the masks and clearing gradients are then one call each instead of one per tensor.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    flat = torch.nn.Parameter(torch.cat([flattened(parameter, channels_last) for parameter in parameters]).detach())
    flat.grad = torch.zeros_like(flat)
    sizes = [parameter.numel() for parameter in parameters]
    for parameter, values, gradient in zip(parameters, flat.data.split(sizes), flat.grad.split(sizes), strict=True):
        parameter.data = in_shape(values, parameter.shape, channels_last)
        parameter.grad = in_shape(gradient, parameter.shape, channels_last)
    return flat


def flatten_masks(
    model: torch.nn.Module,
    flat: torch.nn.Parameter,
    masks: Mapping[str, torch.Tensor],
    *,
    channels_last: bool,
    otherwise: bool = True,
) -> torch.Tensor:
    """Return masks (name -> bool) as one vector of zeros and ones; `otherwise` is the value of parameters without one.

    Raises ValueError for a mask of no prunable weight.
    """
    weights = prunable_weights(model)
    if unknown := masks.keys() - weights.keys():
        raise ValueError(f"masks of weights that are not prunable: {', '.join(sorted(unknown))}")
    # By identity: a tied weight has another name among the model's parameters.
    present = {id(weights[name]): mask.to(flat.device) for name, mask in masks.items()}
    parts = [
        flattened(present[id(parameter)], channels_last).to(flat.dtype)
        if id(parameter) in present
        else torch.full((parameter.numel(),), float(otherwise), dtype=flat.dtype, device=flat.device)
        for parameter in model.parameters()
        if parameter.requires_grad
    ]
    return torch.cat(parts)
