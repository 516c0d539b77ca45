"""Steps one after another, in this process."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from importlib.metadata import version

from autosparse.backends._base import Result, backends
from autosparse.backends.machine import Placement, keep_memory
from autosparse.errors import MissingDevice
from autosparse.lazy_torch import torch


class _Local:
    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._ready = False

    def prepare(self) -> None:
        """Import torch, which takes seconds and memory, and set it up for this place."""
        if not self._ready:
            _prepare(self._placement)
            self._ready = True

    def run(self, work: Callable[[Placement], Result]) -> Result:
        self.prepare()
        return work(self._placement)


@backends.register
def local(placement: Placement) -> _Local:
    """In this process, one step at a time."""
    return _Local(placement)


def _prepare(placement: Placement) -> None:
    # Equal bytes from equal inputs: a fixed number of threads, and kernels that do not race.
    torch.set_num_threads(placement.threads)
    keep_memory()
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns of a CUDA that no CPU needs
    if placement.device.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        if not torch.cuda.is_available():
            raise MissingDevice(
                f"`target.device` is {placement.device} but torch {version('torch')} finds no such device",
                "run with `--set target.device=cpu`, or see `autosparse doctor`",
            )
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = False  # float32 means float32
        torch.use_deterministic_algorithms(True, warn_only=True)
    if placement.device == "mps" and not torch.backends.mps.is_available():
        raise MissingDevice("`target.device` is mps but torch finds no such device", "use `--set target.device=cpu`")
