"""The program that calls the Python API: steps run with torch's defaults, and warnings point to its line."""

from __future__ import annotations

import inspect
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from autosparse.core.torch_compat.autocast_state import autocast_suspended
from autosparse.core.torch_compat.random_state import seeded
from autosparse.errors import AutosparseWarning
from autosparse.lazy_torch import threads_at_import, torch

_PACKAGE = str(Path(__file__).parent.parent) + os.sep
_VARIABLES = ("OPENBLAS_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS", "CUBLAS_WORKSPACE_CONFIG")
"""Variables of the environment that a run sets for its process."""


def warn(text: str) -> None:
    """Warn at the innermost line outside autosparse, torch and generated code.

    Args:
        text: Warning in one sentence.
    """
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_back is not None and _is_inner(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, AutosparseWarning, stacklevel=level)


def _is_inner(frame: Any) -> bool:
    file = frame.f_code.co_filename
    generated = file.startswith("<") and frame.f_globals.get("__name__") != "__main__"  # not `python -c`, nor a prompt
    return generated or file.startswith(_PACKAGE) or f"{os.sep}torch{os.sep}" in file


@contextmanager
def default_settings(*, unless_unused: bool = False) -> Iterator[None]:
    """Run steps with torch's default settings, as the commands do, whatever the caller's are; restore these afterwards.

    Autocast, default types and devices, precision and gradients would change results under the same cache key. With
    `unless_unused`, a process that has not imported torch yet does not import it here.
    """
    variables = {name: os.environ.get(name) for name in _VARIABLES}
    absent = unless_unused and "torch" not in sys.modules
    with ExitStack() as stack:
        stack.callback(_restore_variables, variables)
        if absent:
            stack.callback(_restore_threads)
        else:
            _neutralize(stack)
        yield


def _restore_variables(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _restore_threads() -> None:
    # Measuring has imported torch: the caller's own loop gets as many threads as it would have after its own import.
    if "torch" in sys.modules:
        torch.set_num_threads(threads_at_import())


def _neutralize(stack: ExitStack) -> None:
    stack.callback(torch.set_num_threads, torch.get_num_threads())
    strict, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    stack.callback(torch.use_deterministic_algorithms, strict, warn_only=warns)
    stack.callback(torch.set_default_dtype, torch.get_default_dtype())
    torch.set_default_dtype(torch.float32)
    _neutralize_precision(stack)
    stack.enter_context(torch.inference_mode(False))
    stack.enter_context(torch.enable_grad())
    stack.enter_context(autocast_suspended())
    if torch.get_default_device().type != "cpu":
        stack.enter_context(torch.device("cpu"))
    stack.enter_context(seeded(0))


def _neutralize_precision(stack: ExitStack) -> None:
    backends: Any = torch.backends
    stack.callback(setattr, backends.mkldnn, "enabled", backends.mkldnn.enabled)
    backends.mkldnn.enabled = True
    stack.callback(setattr, backends.cudnn, "benchmark", backends.cudnn.benchmark)
    holders = (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul, backends.mkldnn.matmul)
    for holder in holders:
        stack.callback(setattr, holder, "fp32_precision", holder.fp32_precision)
    # torch refuses to read the older settings where the newer ones contradict them. Restored before the newer ones.
    with suppress(RuntimeError):
        stack.callback(setattr, backends.cudnn, "allow_tf32", backends.cudnn.allow_tf32)
    with suppress(RuntimeError):
        precision = torch.get_float32_matmul_precision()
        stack.callback(torch.set_float32_matmul_precision, precision)
    torch.set_float32_matmul_precision("highest")
