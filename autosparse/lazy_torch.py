"""Stand-ins for torch and numpy that import them on first use, so that plans and help texts never wait for them.

The first attribute access takes the 2 s of importing torch. A proxy, not `importlib.util.LazyLoader`: `sys.modules`
stays unchanged, so other libraries in the process see no half-loaded torch.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any


class _LazyModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # inspection (doctest, copy, pydantic) must not import anything
            raise AttributeError(name)
        attributes = vars(self)
        if "imported" not in attributes:  # an import statement on every access takes as long as a small torch operation
            attributes["imported"] = importlib.import_module(self.__name__)
            if self.__name__ == "torch":
                attributes["threads"] = attributes["imported"].get_num_threads()
        return getattr(attributes["imported"], name)


if TYPE_CHECKING:
    import numpy as numpy
    import torch as torch
else:
    numpy, torch = _LazyModule("numpy"), _LazyModule("torch")


def threads_at_import() -> int:
    """Return torch's number of threads when this process first used it here: its default, unless it was set before."""
    threads: int = vars(torch).get("threads") or torch.get_num_threads()
    return threads


WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
"""Variables by which OpenMP's threads wait for each other without holding a core; libgomp spins for some microseconds.

By default they spin for milliseconds: next to another process on two cores, a training with two threads is several
times as slow as with one (benchmarks/busy.py).
"""


def yield_cores() -> None:
    """Set `WAITING` for this process and its children, before torch is imported; a user's own choice stays."""
    chosen = {*WAITING, "KMP_BLOCKTIME"} & os.environ.keys()
    if not chosen and "torch" not in sys.modules:
        os.environ.update(WAITING)


def default_environment() -> dict[str, str]:
    """Return the environment without `WAITING`, for a process that measures the speed of a user's own programs."""
    return {name: value for name, value in os.environ.items() if WAITING.get(name) != value}
