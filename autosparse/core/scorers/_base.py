"""Scorers: learn from one IRP's labels which weights survive, then predict it for any network.

A scorer is a registered function `(features, labels, generator, observe, **options) -> state`, name -> tensor; `labels`
are survival shares in [0, 1], layer -> `[weights]`. Facts: `predict`, `(state, features) -> scores`; `groups`, the
feature groups that it looks at, given its options; `selection`, what fills its quotas best, else the highest scores;
`objective`, what trials look at; `learns_below`, the share of weights that IRP's rounds must leave at most;
`progressive`, that it learns from the network as each round found it: a layer for each round, labels 1 for what
survives the round, else 0. The options of `Shared` say what state of a network all look at; they are not passed on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge

from autosparse.core.evidence import Evidence
from autosparse.core.features import Features, describe
from autosparse.core.weights import Tensors
from autosparse.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Options of every scorer."""

    warm_up: Annotated[
        int,
        Ge(0),
        "training steps after which networks are described, by the recipe's batches and update rule over one cycle of "
        "its learning rate; masks are for the initial weights",
    ] = 0


scorers: Registry[Callable[..., Tensors]] = Registry("scorer", "scorers", shared=Shared)


def groups_of(name: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """The feature groups that a scorer with these options, or their defaults, looks at."""
    entry = scorers[name]
    return tuple(entry.facts["groups"]({**{name: option.default for name, option in entry.options.items()}, **options}))


def score_weights(
    predict: Callable[[Features], Tensors], groups: Sequence[str], evidence: Evidence, images: int
) -> Tensors:
    """Scores of every weight, in its shape; the tables of feature `groups` are made for one layer after another."""
    scores: Tensors = {}
    for part in describe(evidence, groups, images):
        scores |= {name: values.view(evidence.weights[name].shape) for name, values in predict(part).items()}
    return scores
