"""Functions of torch that others stand in for while a network is called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from autosparse.lazy import torch


def proportional() -> AbstractContextManager[object]:
    """Forms that pass what is positive in proportion, as paths do.

    Pools average: the gradient of max pooling names one position, but any may be the highest. Normalization passes
    what comes in, of which it would subtract the mean. Activations that saturate or bend are rectifiers; gates, which
    let something through when nothing comes in, stay what they are.
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

    def same(*args: Any, **kwargs: Any) -> Any:
        return (args[0] if args else kwargs["input"]).clone()  # what follows may work in place

    def rectified(*args: Any, **kwargs: Any) -> Any:
        return functional.relu(args[0] if args else kwargs["input"])

    names = [f"{kind}pool{n}d" for n in (1, 2, 3) for kind in ("max_", "adaptive_max_")]
    return _substituting(
        {name: average(name.replace("max", "avg")) for name in names}
        | dict.fromkeys(_NORMALIZATIONS, same)
        | dict.fromkeys(_ACTIVATIONS, rectified)
    )


_NORMALIZATIONS = ("group_norm", "instance_norm", "layer_norm", "rms_norm")
_ACTIVATIONS = ("celu", "elu", "gelu", "hardswish", "hardtanh", "mish", "relu6", "selu", "silu", "softplus", "tanh")


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
