"""Calls of a network with substituted parameters and buffers, through the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, TypeVar

from autosparse.core.inputs import Inputs, arguments
from autosparse.core.weights import in_mode
from autosparse.foreign_code import foreign_code
from autosparse.lazy_torch import torch

Result = TypeVar("Result")
Call = Callable[[Inputs], Any]


def with_state(
    model: torch.nn.Module,
    state: Mapping[str, torch.Tensor],
    work: Callable[[Call], Result],
    *,
    training: bool,
    recompute: bool = True,
) -> Result:
    """Return `work(call)`, with `call(inputs)` running the network in `state`, in training or evaluation mode.

    `work` takes gradients inside: activation checkpointing recomputes in the backward pass, and would otherwise use the
    network's original parameters. Reentrant checkpoints, which `torch.autograd.grad` refuses, run without
    recomputation; without `recompute` all do. The model stays unchanged. Raises OwnCodeError with the location of an
    error in its code.
    """

    def call(inputs: Inputs) -> Any:
        positional, named = arguments(inputs)
        with foreign_code(f"calling `{type(model).__name__}`", model):
            return model(*positional, **named)

    def run() -> Result:
        # A recomputation in the backward pass also runs the network's code.
        with foreign_code(f"calling `{type(model).__name__}`", model):
            return work(call)

    # A module that runs a function while `functional_call` has the network's state replaced.
    holder = torch.nn.Module()
    holder.model, holder.forward = model, run
    whole = {f"model.{name}": tensor for name, tensor in state.items()}
    with in_mode(model, training=training), _checkpointing(recompute):
        result: Result = torch.func.functional_call(holder, whole, ())
    return result


@dataclass
class _Patch:
    # Patched functions of torch's checkpointing, while any thread needs them.
    users: int = 0
    before: Mapping[str, Any] = field(default_factory=dict)


_LOCK = Lock()
_REENTRANT, _EVERY = _Patch(), _Patch()


@contextmanager
def _checkpointing(recompute: bool) -> Iterator[None]:
    checkpoint = torch.utils.checkpoint

    def plain(function: Callable[..., Any], preserve_rng_state: bool, *given: Any) -> Any:
        return function(*given)

    def nothing(*given: Any, **named: Any) -> Iterator[None]:
        yield

    # The name differs between releases of torch; without a match, recomputation stays on.
    names = [name for name in vars(checkpoint) if name.startswith("_checkpoint_without_reentrant_generator")]
    with ExitStack() as stack:
        stack.enter_context(_replaced(_REENTRANT, checkpoint.CheckpointFunction, {"apply": plain}))
        if not recompute:
            stack.enter_context(_replaced(_EVERY, checkpoint, dict.fromkeys(names, nothing)))
        yield


@contextmanager
def _replaced(patch: _Patch, owner: Any, functions: Mapping[str, Any]) -> Iterator[None]:
    with _LOCK:
        if not patch.users:
            patch.before = {name: vars(owner).get(name) for name in functions}
            for name, function in functions.items():
                setattr(owner, name, function)
        patch.users += 1
    try:
        yield
    finally:
        with _LOCK:
            patch.users -= 1
            if not patch.users:
                for name, function in patch.before.items():
                    if function is None:  # inherited
                        delattr(owner, name)
                    else:
                        setattr(owner, name, function)
