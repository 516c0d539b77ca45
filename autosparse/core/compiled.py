"""A network's passes as torch.compile makes them for training: fewer, fused kernels, after seconds of compiling."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from autosparse.errors import MissingExtra, StepError
from autosparse.lazy import torch

Forward: TypeAlias = "Callable[[torch.Tensor], torch.Tensor]"


@contextmanager
def compiled(model: torch.nn.Module) -> Iterator[Forward]:
    """A forward pass of `model`, compiled for batches of as many images as the first has; others go as ever.

    Compiled anew for every training, whatever was compiled in this process before, since its bytes may not depend on
    that; what torch keeps on disk of an equal network makes it a matter of seconds. Raises MissingExtra where there is
    no C++ compiler (or, on GPUs, no Triton), and StepError for a network that torch cannot compile.
    """
    size: int | None = None
    torch.compiler.reset()
    made = torch.compile(model, dynamic=False)
    told = logging.getLogger("torch.utils.cpp_extension")
    level = told.level
    told.setLevel(logging.ERROR)  # it warns of a CUDA that no CPU needs

    def forward(images: torch.Tensor) -> torch.Tensor:
        nonlocal size
        size = size or len(images)
        if len(images) != size:
            return model(images)  # type: ignore[no-any-return]
        try:
            return made(images)  # type: ignore[no-any-return]
        except Exception as error:
            if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise _told(error) from error
            raise

    try:
        yield forward
    finally:
        told.setLevel(level)
        torch.compiler.reset()


def _told(error: Exception) -> MissingExtra | StepError:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "InvalidCxxCompiler" in f"{type(error).__name__} {error}":
        return MissingExtra("torch compiles with a C++ compiler, and finds none", NO_COMPILER)
    return StepError(f"torch cannot compile this network: {first}", "train it with `--set training.kernels=dense`")


NO_COMPILER = "install g++ or clang, or name one by the variable CXX; or `--set training.kernels=dense`"
