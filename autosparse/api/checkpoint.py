"""Checkpoints of any training loop: their named tensors, and their way into a network."""

from __future__ import annotations

from pathlib import Path

from autosparse.core.weights import Tensors, load_state, state_of
from autosparse.errors import UsageError
from autosparse.lazy_torch import torch
from autosparse.models.trained import named_tensors, without_prefixes
from autosparse.regular_file import read_regular


def load_checkpoint(network: torch.nn.Module, path: Path) -> None:
    """Load a checkpoint into a network, in place; no code in the file is executed.

    Args:
        network: Network of the checkpoint.
        path: Safetensors file, or PyTorch file with tensors alone or below `state_dict`, `model_state_dict` or `model`.

    Raises:
        UsageError: If the file cannot be read, holds no named tensors, or others than the network's.
        FitError: If it is larger than the memory.
    """
    expected = state_of(network)
    tensors = without_prefixes(read_checkpoint(path), expected, str(path))
    kept = network.state_dict(keep_vars=True)
    stored = {id(kept[name]): tensor for name, tensor in tensors.items() if name in kept}
    # Files of safetensors hold tied weights once.
    tensors |= {name: stored[id(part)] for name, part in kept.items() if name not in tensors and id(part) in stored}
    odd = [f"`{name}` is not in the file" for name in expected if name not in tensors]
    odd += [f"`{name}` is not of the network" for name in tensors if name not in expected]
    odd += [
        f"`{name}` is {[*tensors[name].shape]} in the file and {[*part.shape]} in the network"
        for name, part in expected.items()
        if name in tensors and tensors[name].shape != part.shape
    ]
    if odd:
        more = f", and {len(odd) - 1:,} more" if odd[1:] else ""
        hint = "name the network that was trained, with its options, image shape and number of classes"
        raise UsageError(f"{path} is a checkpoint of another network: {odd[0]}{more}", hint)
    load_state(network, tensors)


def read_checkpoint(path: Path) -> Tensors:
    """Return the named tensors of a checkpoint.

    Args:
        path: File of `load_checkpoint`.

    Returns:
        Tensors on the CPU, in file order.

    Raises:
        UsageError: If the file cannot be read or holds no named tensors.
        FitError: If it is larger than the memory.
    """
    try:
        data = read_regular(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}", "name a checkpoint") from error
    return named_tensors(data, str(path))
