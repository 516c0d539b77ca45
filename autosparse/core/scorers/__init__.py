"""Scorers: learn from one IRP's labels which weights survive, then predict it for any network.

A scorer is a registered function `(features, labels, generator, observe, **options) -> state` that learns,
where `state` is name -> tensor, and the fact `predict`, `(state, features) -> scores` that applies it.
`labels` are survival shares in [0, 1], layer -> `[weights]`.
"""

from collections.abc import Callable
from typing import TypeAlias

from autosparse.core.weights import Tensors
from autosparse.registry import Registry

Fit: TypeAlias = Callable[..., Tensors]
scorers: Registry[Fit] = Registry("scorer", "scorers")

from autosparse.core.scorers import mlp  # noqa: E402

__all__ = ["Fit", "mlp", "scorers"]
