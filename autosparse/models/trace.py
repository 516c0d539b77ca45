"""A network that was never seen before, built once to see that it works and what it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from autosparse.core.torch_compat.random_state import seeded
from autosparse.core.weights import explain_unprunable, in_mode, prunable_weights, state_of
from autosparse.errors import AutosparseError, UsageError
from autosparse.foreign_code import first_line
from autosparse.lazy_torch import torch
from autosparse.models._base import Shape
from autosparse.store import Store, digest


def structure_of(
    label: str, build: Callable[[], torch.nn.Module], identity: Any, shape: Shape, classes: int, *, device: str
) -> str:
    """Digest of the names, shapes and types of a network's state, remembered under `identity`.

    Raises UsageError when the network does not take images of `shape` or give a logit for each class.
    """
    memory = f"structure-{digest([identity, list(shape), classes])}"
    store = Store.default()
    if (known := store.recall(memory)) is not None:
        return str(known)
    with seeded(0):
        try:
            with torch.device(device):
                network = build()
        except NotImplementedError:  # some look at their weights while they are built
            network = build()
        check_network(label, network, shape, classes)
        _check_training(label, network, shape)
    state = state_of(network)
    structure = digest([[name, list(tensor.shape), str(tensor.dtype)] for name, tensor in state.items()])
    store.remember(memory, structure)
    return structure


@contextmanager
def fits(label: str, shape: Shape) -> Iterator[None]:
    """Turn whatever a library's network raises on images of `shape` into a UsageError that says so."""
    try:
        yield
    except AutosparseError:
        raise
    except Exception as error:  # networks assert, index and reshape: any kind of error
        size = " x ".join(map(str, shape))
        message = first_line(error)
        raise UsageError(
            f"model `{label}` does not take images of {size}: {type(error).__name__}: {message}",
            "give the images' size as its option (`image_size`, `img_size`), or scale them: `dataset.size: 224`",
        ) from error


def check_network(label: str, network: Any, shape: Shape, classes: int) -> None:
    """Raise UsageError unless a network has prunable weights and one image gives it one row of `classes` logits."""
    if not isinstance(network, torch.nn.Module):
        raise UsageError(f"model `{label}` must give a torch.nn.Module but gives {_a(network)}")
    lazy = [name for name, parameter in network.named_parameters() if torch.nn.parameter.is_lazy(parameter)]
    if lazy:
        raise UsageError(
            f"model `{label}` is built lazily: {lazy[0]} has no shape before the first batch",
            "name the sizes, or run one batch through it before it is returned",
        )
    if not prunable_weights(network):
        raise UsageError(
            f"model `{label}` has no prunable weight: {explain_unprunable(network)}",
            "weights of convolutions, linear layers and attention are, if they train",
        )
    parameter = next(network.parameters())
    example = torch.zeros((1, *shape), device=parameter.device)
    with in_mode(network, training=False), torch.no_grad():
        outputs = network(example)
    size = " x ".join(map(str, shape))
    if not isinstance(outputs, torch.Tensor):
        raise UsageError(f"model `{label}` must give a tensor of logits but gives {_a(outputs)}")
    if tuple(outputs.shape) != (1, classes):
        raise UsageError(
            f"model `{label}` gives outputs of shape {list(outputs.shape)} for one image of {size}, "
            f"not [1, {classes}]: one logit a class",
            "a factory is called as `factory(input_shape, classes, **options)`",
        )


def _check_training(label: str, network: torch.nn.Module, shape: Shape) -> None:
    # Only for a network that is thrown away: it moves running statistics. Two images, for BatchNorm's sake.
    parameter = next(network.parameters())
    with in_mode(network, training=True), torch.no_grad():
        outputs = network(torch.zeros((2, *shape), device=parameter.device))
    if not isinstance(outputs, torch.Tensor):
        raise UsageError(
            f"model `{label}` must give a tensor of logits but gives {_a(outputs)} while it trains",
            "turn auxiliary outputs off, such as by the option `aux_logits: false`",
        )


def _a(value: Any) -> str:
    return f"a {type(value).__name__}"
