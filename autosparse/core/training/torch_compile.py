"""A network's forward pass compiled by torch for the length of one training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from autosparse.errors import MissingExtra, StepError
from autosparse.lazy_torch import torch

DENSE = "`--set training.kernels=dense` uses dense kernels"
_COMPILERS = ("InvalidCxxCompiler", "TritonMissing")  # torch's errors for a missing compiler

Forward: TypeAlias = "Callable[[torch.Tensor], torch.Tensor]"


@contextmanager
def compiled(model: torch.nn.Module) -> Iterator[Forward]:
    """Yield a forward pass of `model`, compiled for the first batch's size; other batches run uncompiled.

    Recompiled for every training, so that results do not depend on earlier compilations in the process. Raises
    MissingExtra without a C++ compiler or, on GPUs, Triton, and StepError for a network that torch cannot compile.
    """
    size: int | None = None
    on_cpu = next(model.parameters()).device.type == "cpu"
    # Releases of torch before 2.14 reuse code on disk even if it was compiled for another number of threads.
    options: dict[str, Any] = {"cpp.threads": torch.get_num_threads()} if on_cpu else {}
    torch.compiler.reset()
    made = torch.compile(model, dynamic=False, options=options)

    def forward(images: torch.Tensor) -> torch.Tensor:
        nonlocal size
        size = size or len(images)
        return made(images) if len(images) == size else model(images)  # type: ignore[no-any-return]

    try:
        yield forward
    except Exception as error:
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise _explained(error) from error
        raise
    finally:
        torch.compiler.reset()


def _explained(error: Exception) -> MissingExtra | StepError:
    message = f"{type(error).__name__}: {error}"
    if any(name in message for name in _COMPILERS):
        needed = "Triton" if "Triton" in message else "a C++ compiler"
        return MissingExtra(f"torch compiles with {needed}, and finds none", f"install it, or {DENSE}")
    first = str(error).strip().partition("\n")[0] or type(error).__name__
    return StepError(f"torch cannot compile this network: {first}", DENSE)
