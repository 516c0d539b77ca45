"""The program that calls the Python API: its settings of torch are restored, and warnings point to its line."""

from __future__ import annotations

import inspect
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from autosparse.errors import AutosparseWarning
from autosparse.lazy_torch import torch

_PACKAGE = str(Path(__file__).parent.parent)


def warn(text: str) -> None:
    """Warn at the innermost line outside autosparse, torch and generated code.

    Args:
        text: Warning in one sentence.
    """
    level, frame = 1, inspect.currentframe()
    while frame is not None and (
        (file := frame.f_code.co_filename).startswith((_PACKAGE, "<")) or f"{os.sep}torch{os.sep}" in file
    ):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, AutosparseWarning, stacklevel=level)


@contextmanager
def settings_restored(*, unless_unused: bool = False) -> Iterator[None]:
    """Restore the settings of torch that measuring and running steps changes.

    With `unless_unused`, a process that has not imported torch yet does not import it here.
    """
    if unless_unused and "torch" not in sys.modules:
        yield
        return
    cudnn: Any = torch.backends.cudnn
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    strict, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, threads)
        stack.callback(torch.set_rng_state, state)
        stack.callback(torch.use_deterministic_algorithms, strict, warn_only=warns)
        stack.callback(setattr, cudnn, "benchmark", cudnn.benchmark)
        stack.callback(setattr, cudnn, "allow_tf32", cudnn.allow_tf32)
        yield
