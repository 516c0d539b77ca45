"""The global random generators (torch's, numpy's and Python's), seeded inside a context.

Foreign code (dropout, stochastic depth, `torch.rand`, `random.random()` in a forward pass, a shuffling loader) draws
from global generators. A context here starts at a seed and restores the outer states.
"""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Mapping
from typing import Any

from autosparse.lazy_torch import torch


class Generators:
    """States of the global generators that hold inside `with` blocks only.

    The first block begins at `seed`, every later one where the last one ended: a loader that shuffles and a network
    with dropout cannot change each other's random numbers.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._inner: tuple[Any, ...] | None = None
        self._outer: tuple[Any, ...] | None = None

    def __enter__(self) -> None:
        self._outer = _read()
        if self._inner is None:
            _seed(self._seed)
        else:
            _write(self._inner)

    def __exit__(self, *error: object) -> None:
        assert self._outer is not None
        self._inner = _read()
        _write(self._outer)


def seeded(seed: int) -> Generators:
    """Return a context in which all global generators begin at `seed`; it restores them afterwards."""
    return Generators(seed)


def seed_of(*purpose: str | int) -> int:
    """Return a seed in [0, 2^63): the digest of its purpose."""
    text = "/".join(str(part) for part in purpose)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def global_states() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the states of the global generators, for a checkpoint: tensors by name, and a JSON value."""
    cpu, cuda, apple, python, numpy = _read()
    tensors = {"cpu": cpu, **{f"cuda{device}": state for device, state in cuda.items()}}
    if apple is not None:
        tensors["apple"] = apple
    version, words, drawn = python
    value: dict[str, Any] = {"python": [version, [*words], drawn]}
    if numpy is not None:
        tensors["numpy"] = torch.from_numpy(numpy[1].astype("int64"))
        value["numpy"] = [numpy[0], *numpy[2:]]
    return tensors, value


def restore_global_states(tensors: Mapping[str, torch.Tensor], value: Mapping[str, Any]) -> None:
    """Restore the states that `global_states` returned."""
    version, words, drawn = value["python"]
    numpy = None
    if "numpy" in value:
        name, *rest = value["numpy"]
        numpy = (name, tensors["numpy"].numpy().astype("uint32"), *rest)
    cuda = {device: tensors[f"cuda{device}"] for device in _devices() if f"cuda{device}" in tensors}
    _write((tensors["cpu"], cuda, tensors.get("apple"), (version, tuple(words), drawn), numpy))


def _seed(seed: int) -> None:
    torch.default_generator.manual_seed(seed)
    for device in _devices():
        torch.cuda.default_generators[device].manual_seed(seed)
    if _on_apple():
        torch.mps.manual_seed(seed)
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed % 2**32)


def _read() -> tuple[Any, ...]:
    numpy = sys.modules.get("numpy")
    return (
        torch.get_rng_state(),
        {device: torch.cuda.get_rng_state(device) for device in _devices()},
        torch.mps.get_rng_state() if _on_apple() else None,
        random.getstate(),
        numpy.random.get_state() if numpy else None,
    )


def _write(states: tuple[Any, ...]) -> None:
    cpu, cuda, apple, python, numpy = states
    torch.set_rng_state(cpu)
    for device, state in cuda.items():
        torch.cuda.set_rng_state(state, device)
    if apple is not None:
        torch.mps.set_rng_state(apple)
    random.setstate(python)
    if numpy is not None and "numpy" in sys.modules:
        sys.modules["numpy"].random.set_state(numpy)


def _devices() -> range:
    return range(torch.cuda.device_count()) if torch.cuda.is_initialized() else range(0)


def _on_apple() -> bool:
    return bool(torch.backends.mps.is_available())
