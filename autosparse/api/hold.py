"""Masked weights that stay zero: after optimizer steps, and when states are loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autosparse.errors import UsageError
from autosparse.lazy import torch


class Hold:
    """A hold in force until `remove()`; in a `with` statement, until the block ends.

    A copy of an optimizer has no hooks, as torch has it: hold again with the copy.
    """

    def __init__(self, zeros: Sequence[_Zero], hooks: Sequence[torch.utils.hooks.RemovableHandle]) -> None:
        self._zeros = zeros
        self._hooks = hooks

    def remove(self) -> None:
        """Let the weights go: they train again from zero. In copies of the model too."""
        for hook in self._hooks:
            hook.remove()
        for zero in self._zeros:
            zero.held = False

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


def hold_zero(
    model: torch.nn.Module,
    weights: Mapping[str, torch.nn.Parameter],
    masks: Mapping[str, torch.Tensor],
    optimizers: Sequence[torch.optim.Optimizer],
) -> Hold:
    """Hooks that zero `weights` where `masks` do, after steps of `optimizers` and loads of any module's state.

    Raises UsageError, before any hook is set, unless every optimizer holds one of the weights, and together
    they hold all that train.
    """
    owners = [_held_by(optimizer) for optimizer in optimizers]
    if not owners:
        raise UsageError("`hold` needs the optimizer that trains the model", "write `masks.hold(optimizer)`")
    for optimizer, own in zip(optimizers, owners, strict=True):
        if not any(id(weight) in own for weight in weights.values()):
            raise UsageError(
                f"the optimizer {type(optimizer).__name__} holds none of the {len(weights)} masked weights",
                "make it from the parameters of the model that the masks are for, or pass `model=`",
            )
    missing = [
        name
        for name, weight in weights.items()
        if weight.requires_grad and not any(id(weight) in own for own in owners)
    ]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UsageError(
            f"{len(missing)} of {len(weights)} masked weights are in no optimizer: {', '.join(missing[:3])}{more}",
            "pass all optimizers of the model, `masks.hold(first, second)`; freeze what none shall train",
        )
    zeros = {id(weight): _Zero(~masks[name].to(weight.device)) for name, weight in weights.items()}
    hooks: list[torch.utils.hooks.RemovableHandle] = []
    for optimizer, own in zip(optimizers, owners, strict=True):
        mine = [(weight, zeros[id(weight)]) for weight in weights.values() if id(weight) in own]
        hooks.append(optimizer.register_step_post_hook(_AfterStep(mine)))
    for module in model.modules():
        for name, parameter in module._parameters.items():
            # Every module that has the weight: a tied one is loaded several times, by the last of them last.
            if id(parameter) in zeros:
                hooks.append(module.register_load_state_dict_post_hook(_AfterLoad(name, zeros[id(parameter)])))
    return Hold([*zeros.values()], hooks)


class _Zero:
    """The places of one weight that are zero, wherever the weight is moved; copies of a model share it."""

    def __init__(self, pruned: torch.Tensor) -> None:
        self.pruned = pruned
        self.held = True

    def __deepcopy__(self, memo: dict[int, Any]) -> _Zero:
        return self

    def __call__(self, weight: torch.Tensor) -> None:
        if self.held:
            if self.pruned.device != weight.device:
                self.pruned = self.pruned.to(weight.device)
            with torch.no_grad():
                weight.masked_fill_(self.pruned, 0)  # a product would keep what is not a number


class _AfterStep:
    def __init__(self, mine: Sequence[tuple[torch.nn.Parameter, _Zero]]) -> None:
        self.mine = mine

    def __call__(self, optimizer: torch.optim.Optimizer, arguments: Any, options: Any) -> None:
        for weight, zero in self.mine:
            zero(weight)


class _AfterLoad:
    """A hook of the module that has the weight: of its own parameter, so that it serves a copy as well.

    A class, not a closure: a model with hooks can still be pickled.
    """

    def __init__(self, name: str, zero: _Zero) -> None:
        self.name = name
        self.zero = zero

    def __call__(self, module: torch.nn.Module, incompatible: Any) -> None:
        parameter = module._parameters.get(self.name)
        if parameter is not None and parameter.shape == self.zero.pruned.shape:
            self.zero(parameter)


def _held_by(optimizer: torch.optim.Optimizer) -> set[int]:
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise UsageError(
            f"`hold` takes optimizers of torch.optim but was given {type(optimizer).__name__}",
            "pass the optimizer inside it",
        )
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
