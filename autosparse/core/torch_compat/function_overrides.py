"""Substitutes for functions of torch during a network's forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from autosparse.errors import UsageError
from autosparse.lazy_torch import torch


def proportional(
    real: Sequence[torch.Tensor] = (), signs: Iterator[torch.Tensor] | None = None
) -> AbstractContextManager[object]:
    """Substitute functions that are proportional in positive inputs, as paths are.

    Pools average: the gradient of max pooling names one position, but any may be the highest. Normalization passes its
    input. Activations that saturate or bend become rectifiers; gates, whose output for zero input is not zero, stay
    unchanged. Embeddings give ones, unless their weight is one of the `real` ones. With `signs` from `recording`, one
    after another, activations pass their input where the recorded one was positive.
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
        return (args[0] if args else kwargs["input"]).clone()  # later operations may work in place

    def rectified(*args: Any, **kwargs: Any) -> Any:
        # relu keeps its result for the backward pass, and later operations may change it in place.
        return functional.relu(args[0] if args else kwargs["input"]).clone()

    def normalized(*args: Any, **kwargs: Any) -> Any:
        given = {**dict(zip(("input", "running_mean", "running_var"), args, strict=False)), **kwargs}
        # With running statistics it is linear. Without them it standardizes, images or weights.
        fixed = given.get("running_mean") is not None and not (args[5] if len(args) > 5 else given.get("training"))
        return functional.batch_norm(*args, **kwargs) if fixed else same(*args, **kwargs)

    def embedded(lookup: Callable[..., Any]) -> Callable[..., Any]:
        def ones(*args: Any, **kwargs: Any) -> Any:
            weight = args[1] if len(args) > 1 else kwargs["weight"]
            vectors = lookup(*args, **kwargs)
            return vectors if any(weight is tensor for tensor in real) else torch.ones_like(vectors)

        return ones

    def passing(name: str, *args: Any, **kwargs: Any) -> Any:
        input, sign = args[0] if args else kwargs["input"], next(signs or iter(()), None)
        if sign is None or sign.shape != input.shape:
            raise UsageError(
                "the network calls other activations on other inputs of the same shape",
                "choose a criterion that follows no activations, such as `synflow`",
            )
        in_place = name.endswith("_") or kwargs.get("inplace") or any(part is True for part in args[1:])
        return input.mul_(sign) if in_place else input * sign

    names = [f"{kind}pool{n}d" for n in (1, 2, 3) for kind in ("max_", "adaptive_max_")]
    return _substituting(
        {name: average(name.replace("max", "avg")) for name in names}
        | dict.fromkeys(_NORMALIZATIONS, same)
        | dict.fromkeys(_ACTIVATIONS, rectified)
        | {"batch_norm": normalized}
        | {name: embedded(getattr(functional, name)) for name in ("embedding", "embedding_bag")}
        | ({} if signs is None else {name: partial(passing, name) for name in _RECORDED})
    )


def recording(signs: list[torch.Tensor]) -> AbstractContextManager[object]:
    """Append to `signs`, for every call of an activation, where its input is positive: bool, of the input's shape."""

    class Recording(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if getattr(function, "__name__", "") in _RECORDED:
                signs.append((args[0] if args else kwargs["input"]).detach() > 0)
            return function(*args, **kwargs)

    return Recording()


_NORMALIZATIONS = ("group_norm", "instance_norm", "layer_norm", "rms_norm")
_ACTIVATIONS = ("celu", "elu", "gelu", "hardswish", "hardtanh", "mish", "relu6", "selu", "silu", "softplus", "tanh")
_RECTIFIERS = ("relu", "leaky_relu", "prelu", "rrelu")
_RECORDED = tuple(name + end for name in (*_RECTIFIERS, *_ACTIVATIONS) for end in ("", "_"))


def averaging(number: int) -> AbstractContextManager[object]:
    """Substitute a BatchNorm in training mode that averages its running statistics over batches, of equal weight.

    `number` is that of the batch, from 1 on.
    """
    functional = torch.nn.functional
    options = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")

    def averaged(*args: Any, **kwargs: Any) -> Any:
        return functional.batch_norm(**{**dict(zip(options, args, strict=False)), **kwargs, "momentum": 1 / number})

    return _substituting({"batch_norm": averaged})


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Substitute twice-differentiable forms of attention, whose fast kernels are not, and of hard sigmoid."""
    attention = torch.nn.attention

    def hardsigmoid(*args: Any, **kwargs: Any) -> Any:
        return torch.nn.functional.relu6((args[0] if args else kwargs["input"]) + 3) / 6

    with attention.sdpa_kernel(attention.SDPBackend.MATH), _substituting({"hardsigmoid": hardsigmoid}):
        yield


@contextmanager
def in_float64(model: torch.nn.Module) -> Iterator[None]:
    """Compute a network's floats in float64, though its code casts them to or creates them in another precision.

    Constants, `x.float()`, `torch.zeros(...)` and dtypes given by name become float64. A network whose call needed no
    change skips this from then on: it slows every operation.
    """
    if model.__dict__.get(_ALREADY, False):
        yield
        return
    changed = False

    def raised(value: Any) -> Any:
        nonlocal changed
        if isinstance(value, torch.Tensor):
            if not value.is_floating_point() or value.itemsize >= 8:
                return value
            changed = True
            return value.double()
        if isinstance(value, torch.dtype):
            if not value.is_floating_point or value.itemsize >= 8:
                return value
            changed = True
            return torch.float64
        if type(value) in (tuple, list):
            return type(value)(map(raised, value))
        return {name: raised(item) for name, item in value.items()} if type(value) is dict else value

    class InFloat64(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal changed
            kwargs = kwargs or {}
            name = getattr(function, "__name__", "")
            if name in ("float", "half", "bfloat16") and args and not args[0].is_complex():
                changed = True
                return args[0].double()
            if name in _READ_ONLY:
                return function(*args, **kwargs)
            result = function(*raised(args), **raised(kwargs))
            return result if name.endswith("_") and not name.endswith("__") else raised(result)

    with InFloat64():
        yield
    model.__dict__[_ALREADY] = not changed


_ALREADY = "_autosparse_float64"  # an attribute of networks that run in float64 unchanged
_READ_ONLY = ("__get__", "__set__", "is_floating_point", "is_complex", "dim", "size", "stride", "numel", "data_ptr")


def _substituting(substitutes: Mapping[str, Callable[..., Any]]) -> AbstractContextManager[object]:
    class Substituting(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            substitute = substitutes.get(getattr(function, "__name__", ""))
            return (function if substitute is None or kwargs.get("return_indices") else substitute)(*args, **kwargs)

    return Substituting()
