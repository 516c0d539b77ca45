"""Checkpoints of any training loop: their named tensors, and their way into a network."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autosparse.borders import border, in_short, is_out_of_memory, out_of_memory
from autosparse.core.weights import Tensors, load_state, state_of
from autosparse.errors import UsageError
from autosparse.lazy_torch import torch
from autosparse.regular_file import read_regular
from autosparse.store import load_tensors

_NESTED = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.", "model.")
"""Prefixes that DistributedDataParallel, torch.compile and Lightning put before the names of tensors."""
_ALONE = "save the tensors alone: `torch.save(network.state_dict(), FILE)`"


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
    tensors = {_plain(name, expected): tensor for name, tensor in read_checkpoint(path).items()}
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

    def refuse(error: BaseException) -> BaseException:
        if is_out_of_memory(error):
            return out_of_memory(f"reading {path}", error)
        return UsageError(f"{path} is damaged, or holds more than tensors: {in_short(error)}", _ALONE)

    with border(refuse):
        value: Any = load_tensors(data) if data[8:9] == b"{" else _unpickled(data)
    while isinstance(value, Mapping):
        nested = next((value[key] for key in _NESTED if isinstance(value.get(key), Mapping)), None)
        if nested is None:
            break
        value = nested
    entries = value.items() if isinstance(value, Mapping) else ()
    tensors = {name: part for name, part in entries if isinstance(name, str) and isinstance(part, torch.Tensor)}
    if not tensors:
        raise UsageError(f"{path} holds no named tensors", _ALONE)
    return tensors


def _unpickled(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _plain(name: str, expected: Mapping[str, Any]) -> str:
    if name not in expected:
        name = name.replace("._orig_mod.", ".")  # a compiled part of a network
    while name not in expected and (prefix := next(filter(name.startswith, _PREFIXES), "")):
        name = name.removeprefix(prefix)
    return name
