"""The memory layout of a network: torch's channels_last, which is faster, or the default that its author used."""

from __future__ import annotations

from dataclasses import replace

from autosparse.core.images import Images
from autosparse.core.inputs import Inputs, map_tensors, noise_like, tensors_in
from autosparse.core.torch_compat.functional_call import with_state
from autosparse.core.torch_compat.random_state import seeded
from autosparse.core.weights import Tensors
from autosparse.errors import OwnCodeError
from autosparse.lazy_torch import torch

_CLOSE = 1e-2  # of the largest output: layouts differ in rounding, or altogether


def lay_out(model: torch.nn.Module, images: Images) -> Images:
    """Return images in the layout that a network accepts, and convert its weights to that layout in place.

    Raises OwnCodeError for a network that runs in neither layout.
    """
    images = images_for(model, images)
    if not images.contiguous:
        model.to(memory_format=torch.channels_last)
    return images


def images_for(model: torch.nn.Module, images: Images) -> Images:
    """Return images in the layout that a network accepts; the network stays unchanged."""
    example = torch.zeros((2, *images.input_shape), device=images.labels.device)
    return images if takes_channels_last(model, example) else replace(images, contiguous=True)


def takes_channels_last(model: torch.nn.Module, example: Inputs) -> bool:
    """Return whether a network gives the same with images and weights in channels_last as in the default layout.

    Code such as `x.view(-1, 400)` after a convolution needs the default layout. Tested in evaluation mode on noise of
    the example's shapes. Raises OwnCodeError for a network that does not run in the default layout either.
    """
    inputs = noise_like(example)
    expected = _outputs(model, inputs, torch.contiguous_format)
    try:
        actual = _outputs(model, inputs, torch.channels_last)
    except OwnCodeError:
        return False
    return len(expected) == len(actual) and all(map(_are_close, expected, actual))


def flattened(tensor: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """Return a weight as a vector, in its memory order in a network of that layout."""
    return (tensor.permute(0, 2, 3, 1) if channels_last and tensor.ndim == 4 else tensor).reshape(-1)


def in_shape(vector: torch.Tensor, shape: torch.Size, channels_last: bool) -> torch.Tensor:
    """Return a view of a `flattened` weight in its shape."""
    if len(shape) != 4 or not channels_last:
        return vector.view(shape)
    outputs, inputs, height, width = shape
    return vector.view(outputs, height, width, inputs).permute(0, 3, 1, 2)


def _outputs(model: torch.nn.Module, inputs: Inputs, layout: torch.memory_format) -> list[torch.Tensor]:
    def laid(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.contiguous(memory_format=layout) if tensor.ndim == 4 else tensor

    state: Tensors = {name: laid(parameter.detach()) for name, parameter in model.named_parameters()}
    with torch.no_grad(), seeded(0):
        outputs = with_state(model, state, lambda call: call(map_tensors(laid, inputs)), training=False)
    return [part.float() for part in tensors_in(outputs) if part.is_floating_point()]


def _are_close(expected: torch.Tensor, actual: torch.Tensor) -> bool:
    if expected.shape != actual.shape:
        return False
    largest = float(expected.abs().nan_to_num(0, 0, 0).max()) if expected.numel() else 0.0
    return torch.allclose(expected, actual, rtol=_CLOSE, atol=_CLOSE * largest, equal_nan=True)
