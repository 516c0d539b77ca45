"""A network that runs with other parameters and buffers than those it has, through its backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

from autosparse.core.foreign_code import foreign_code
from autosparse.core.inputs import Inputs, arguments
from autosparse.core.weights import in_mode
from autosparse.lazy import torch

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
    """Return what `work(call)` returns, `call(inputs)` being the network in `state`, in training or evaluation mode.

    `work` takes gradients inside: activation checkpointing runs parts of the network once more during the backward
    pass, and would find the network's own parameters after a functional call has returned. Reentrant checkpoints
    (`use_reentrant=True`), which `torch.autograd.grad` refuses, run without recomputation; without `recompute` all do.
    The model is left as it was.

    Raises OwnCodeError with its file and line for whatever the network's code raises.
    """

    def call(inputs: Inputs) -> Any:
        positional, named = arguments(inputs)
        with foreign_code(f"calling `{type(model).__name__}`", model):
            return model(*positional, **named)

    def run() -> Result:
        # A recomputation in the backward pass is the network's code as well.
        with foreign_code(f"calling `{type(model).__name__}`", model):
            return work(call)

    whole = {f"model.{name}": tensor for name, tensor in state.items()}
    with in_mode(model, training=training), _checkpointing(recompute):
        result: Result = torch.func.functional_call(_holder()(model), whole, (run,))
    return result


@cache
def _holder() -> type[torch.nn.Module]:
    class Holder(torch.nn.Module):
        """Runs a function while `functional_call` has the network's state replaced."""

        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, run: Callable[[], Any]) -> Any:
            return run()

    return Holder


@contextmanager
def _checkpointing(recompute: bool) -> Iterator[None]:
    checkpoint = torch.utils.checkpoint

    def plain(function: Callable[..., Any], preserve_rng_state: bool, *given: Any) -> Any:
        return function(*given)

    def nothing(*given: Any, **named: Any) -> Iterator[None]:
        yield

    # Named differently in releases of torch; where none is found, recomputation stays on.
    names = [name for name in vars(checkpoint) if name.startswith("_checkpoint_without_reentrant_generator")]
    before = {name: getattr(checkpoint, name) for name in names if not recompute}
    checkpoint.CheckpointFunction.apply = plain
    for name in before:
        setattr(checkpoint, name, nothing)
    try:
        yield
    finally:
        del checkpoint.CheckpointFunction.apply
        for name, function in before.items():
            setattr(checkpoint, name, function)
