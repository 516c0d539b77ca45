"""Scorers: learn from one IRP's labels which weights survive, then predict it for any network.

A scorer is a registered function `(features, labels, generator, observe, **options) -> state`, name -> tensor; `labels`
are survival shares in [0, 1], layer -> `[weights]`. Facts: `predict`, `(state, features) -> scores`; `groups`, the
feature groups that it uses, by its options; `macs`, `(options, columns) -> multiply-adds` of one weight's score, for
those of a network; `selection`, the best for its quotas, by default the highest scores;
`objective`, the metric of trials; `learns_below`, the largest share of weights that IRP's rounds may leave;
`progressive`, if it learns from the network at the start of each round: a layer per round, labels 1 for survivors of
the round, else 0. The options of `Shared` set the state of a network for every scorer; they are not passed on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge

from autosparse.core.evidence import Evidence
from autosparse.core.features import Features, columns_of, describe
from autosparse.core.weights import Tensors
from autosparse.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Options of every scorer."""

    warm_up: Annotated[
        int,
        Ge(0),
        "number of training steps before the features are computed, with the recipe's batches, optimizer and one-cycle "
        "learning rate; masks are for the initial weights",
    ] = 0


scorers: Registry[Callable[..., Tensors]] = Registry("scorer", "scorers", shared=Shared)


def groups_of(name: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the feature groups that a scorer uses with these options, or their defaults.

    Args:
        name: Name of the scorer.
        options: Options of the scorer; the others have their defaults.

    Returns:
        Names of feature groups.

    Examples:
        >>> groups_of("mlp", {"features_used": ("magnitude", "layer")})
        ('magnitude', 'layer')
    """
    entry = scorers[name]
    return tuple(entry.facts["groups"]({**{name: option.default for name, option in entry.options.items()}, **options}))


def macs_of(name: str, options: Mapping[str, Any]) -> tuple[int, int]:
    """Return the multiply-adds of one weight's score, and those of learning the scorer.

    An update of a perceptron on `batch` weights counts a forward pass and a backward pass of two. A scorer in closed
    form counts none.

    Args:
        name: Name of the scorer.
        options: Options of the scorer; the others have their defaults.

    Returns:
        Multiply-adds of a prediction and of learning.

    Examples:
        >>> macs_of("paper", {})[0]
        1180768
    """
    entry = scorers[name]
    given = {**{name: option.default for name, option in entry.options.items()}, **options}
    count = entry.facts.get("macs")
    one = int(count(given, len(columns_of(groups_of(name, options))))) if count else 0
    return one, 3 * one * given.get("steps", 0) * given.get("batch", 0)


def score_weights(
    predict: Callable[[Features], Tensors], groups: Sequence[str], evidence: Evidence, images: int
) -> Tensors:
    """Return scores of every weight; feature tables are built layer by layer, to bound memory.

    Args:
        predict: Function from a feature table to scores, layer -> `[weights]`.
        groups: Feature groups of the table.
        evidence: Network under its present masks.
        images: Number of training images that gradients among the features are averaged over.

    Returns:
        Scores, name -> float tensor of the weight's shape and device.
    """
    scores: Tensors = {}
    for part in describe(evidence, groups, images):
        scores |= {name: values.view(evidence.weights[name].shape) for name, values in predict(part).items()}
    return scores
