"""Callback that holds masks while Lightning or the Hugging Face Trainer trains a network."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any, Protocol

from autosparse.api.hold import Hold
from autosparse.errors import MissingExtra
from autosparse.lazy_torch import torch

_CALLBACKS = {"lightning.pytorch": "Callback", "pytorch_lightning": "Callback", "transformers": "TrainerCallback"}


class Holdable(Protocol):
    """Masks as a callback needs them; see `Masks`."""

    def apply(self, model: torch.nn.Module) -> None: ...

    def hold(self, *optimizers: torch.optim.Optimizer, model: torch.nn.Module | None = None) -> Hold: ...

    def home_in(self, root: torch.nn.Module, model: torch.nn.Module | str | None) -> torch.nn.Module: ...


def callback_for(masks: Holdable, model: torch.nn.Module | str | None = None) -> Any:
    """Return a callback for the trainers of all imported libraries; see `Masks.callback`.

    Its class derives from the callback class of each library that is already imported, so that no library is imported
    for it and every `isinstance` check passes. If none is imported, those installed are.

    Args:
        masks: Masks to hold.
        model: Network of the masks or its attribute in the trained module; by default the part that the masks fit.

    Returns:
        The callback.

    Raises:
        MissingExtra: If neither Lightning nor transformers can be imported.
    """
    kinds = _kinds_of(name for name in _CALLBACKS if sys.modules.get(name)) or _kinds_of(_CALLBACKS)
    if not kinds:
        raise MissingExtra(
            "`masks.callback()` needs Lightning or transformers, and neither can be imported",
            "run `pip install 'autosparse[lightning]'` or `pip install 'autosparse[transformers]'`",
        )
    return _kind(kinds)(masks, model)


def _kinds_of(libraries: Iterable[str]) -> tuple[type, ...]:
    kinds: list[type] = []
    for name in libraries:
        with suppress(Exception):  # missing, or broken: transformers imports its classes when they are asked for
            kinds.append(getattr(import_module(name), _CALLBACKS[name]))
    return tuple(kinds)


@cache
def _kind(bases: tuple[type, ...]) -> type:
    return type("MaskCallback", (_Holding, *bases), {"__module__": __name__})


class _Holding:
    """Hooks of both libraries; only `on_train_end` is in both."""

    def __init__(self, masks: Holdable, model: torch.nn.Module | str | None) -> None:
        self.masks = masks
        self.model = model
        self._holding: tuple[Hold, torch.nn.Module] | None = None

    def __reduce__(self) -> tuple[Any, ...]:  # to the processes of a strategy, which find the network again
        return callback_for, (self.masks, self.model)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"the callback has no {name}: import the library of the trainer before `masks.callback()`", name=name
        )

    def on_fit_start(self, trainer: Any, pl_module: torch.nn.Module) -> None:
        """Apply the masks under Lightning, before it validates a few batches."""
        self.masks.apply(self.masks.home_in(pl_module, self.model))

    def on_train_start(self, trainer: Any, pl_module: torch.nn.Module) -> None:
        """Hold the masks under Lightning; the optimizers and a checkpoint are loaded."""
        self._begin(pl_module, trainer.optimizers)

    def on_fit_end(self, trainer: Any, pl_module: torch.nn.Module) -> None:
        """End the hold under Lightning, after callbacks that average weights at the end of the training."""
        self._end()

    def on_exception(self, trainer: Any, pl_module: torch.nn.Module, exception: BaseException) -> None:
        """End the hold under Lightning."""
        self._end()

    def on_train_begin(self, args: Any, state: Any, control: Any, **trained: Any) -> None:
        """Hold the masks under transformers; the optimizer and a checkpoint are loaded."""
        self._begin(trained["model"], [trained["optimizer"]])

    def on_train_end(self, *_: Any, **trained: Any) -> None:
        """End the hold under transformers, after the best checkpoint is loaded; Lightning gives no keywords."""
        if trained:
            self._end()

    def _begin(self, root: torch.nn.Module, optimizers: Sequence[Any]) -> None:
        self._end()  # of a training that failed
        home = self.masks.home_in(root, self.model)
        ids = {id(parameter) for parameter in home.parameters()}
        training = [
            optimizer
            for optimizer in optimizers
            if any(id(parameter) in ids for group in optimizer.param_groups for parameter in group["params"])
        ]  # not the optimizer of a discriminator
        self._holding = self.masks.hold(*(training or optimizers), model=home), home

    def _end(self) -> None:
        if self._holding is not None:
            hold, home = self._holding
            self._holding = None
            self.masks.apply(home)
            hold.remove()
