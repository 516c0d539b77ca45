"""Scorers: learn from one IRP's labels which weights survive, then predict it for any network.

A scorer is a registered function `(features, labels, generator, observe, **options) -> state` that learns,
where `state` is name -> tensor, the fact `predict`, `(state, features) -> scores` that applies it, and the fact
`groups`, the feature groups that it looks at, given its options. `labels` are survival shares in [0, 1], layer ->
`[weights]`. One with the fact `progressive` learns from the network as one round after another found it: there is a
layer for each of these rounds, of the weights that it found, and a label is 1 for what survives the round, else 0.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from autosparse.core.weights import Tensors
from autosparse.registry import Registry

Fit: TypeAlias = Callable[..., Tensors]
scorers: Registry[Fit] = Registry("scorer", "scorers")

from autosparse.core.scorers import hazard, mlp, paper  # noqa: E402


def groups_of(name: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """The feature groups that a scorer with these options, or their defaults, looks at."""
    entry = scorers[name]
    return tuple(entry.facts["groups"]({**{name: option.default for name, option in entry.options.items()}, **options}))


__all__ = ["Fit", "groups_of", "hazard", "mlp", "paper", "scorers"]
