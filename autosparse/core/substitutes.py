"""Functions of torch that others stand in for while a network is called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from autosparse.lazy import torch


def averaging_pools() -> AbstractContextManager[object]:
    """Average in place of max pooling.

    The gradient of max pooling names one position, but any may be the highest: every one is a path.
    """
    functional = torch.nn.functional
    options = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")

    def average(kind: str) -> Callable[..., Any]:
        pool = getattr(functional, kind)

        def adaptive(*args: Any, **kwargs: Any) -> Any:
            return pool(args[0], args[1] if len(args) > 1 else kwargs["output_size"])

        def plain(*args: Any, **kwargs: Any) -> Any:
            given = {**dict(zip(options, args, strict=False)), **kwargs}
            return pool(**{key: given[key] for key in options if key in given and key != "dilation"})

        return adaptive if kind.startswith("adaptive") else plain

    names = [f"{kind}pool{n}d" for n in (1, 2, 3) for kind in ("max_", "adaptive_max_")]
    return _substituting({name: average(name.replace("max", "avg")) for name in names})


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Forms that have a second derivative: of attention, whose fast kernels lack one, and of hard sigmoid."""
    attention = torch.nn.attention

    def hardsigmoid(*args: Any, **kwargs: Any) -> Any:
        return torch.nn.functional.relu6((args[0] if args else kwargs["input"]) + 3) / 6

    with attention.sdpa_kernel(attention.SDPBackend.MATH), _substituting({"hardsigmoid": hardsigmoid}):
        yield


def _substituting(substitutes: Mapping[str, Callable[..., Any]]) -> AbstractContextManager[object]:
    class Substituting(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            substitute = substitutes.get(getattr(function, "__name__", ""))
            return (function if substitute is None or kwargs.get("return_indices") else substitute)(*args, **kwargs)

    return Substituting()
