"""Iterative rewind pruning (IRP): one round trains, ranks, prunes and rewinds; rounds survived are the labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from autosparse.core.criteria import snip
from autosparse.core.evidence import Evidence
from autosparse.core.images import Images
from autosparse.core.selection import keep_top, ranks_of
from autosparse.core.torch_compat.memory_layout import images_for
from autosparse.core.training.loop import Checkpoint, Observe, Team, accuracy, train
from autosparse.core.training.recipe import Recipe
from autosparse.core.weights import Tensors, load_state, prunable_weights, together
from autosparse.lazy_torch import torch

RankBy: TypeAlias = Literal["magnitude", "magnitude_increase", "movement", "snip"]
PerRoundOf: TypeAlias = Literal["remaining", "all"]

RANK_IMAGES = 512  # images for the gradient of `snip`


@dataclass(frozen=True)
class Round:
    """The result of a round: its masks, its ranking scores, and the network's quality before pruning."""

    masks: Tensors
    scores: Tensors
    losses: list[float]
    validation_accuracy: float


def irp_round(
    build: Callable[[], torch.nn.Module],
    initial: Mapping[str, torch.Tensor],
    masks: Mapping[str, torch.Tensor] | None,
    *,
    keep: int,
    training: Images,
    validation: Images,
    recipe: Recipe,
    generator: torch.Generator,
    rank_by: RankBy = "magnitude",
    begin: int = 0,
    evaluation_batch: int = 1000,
    observe: Observe = lambda *_: None,
    team: Team | None = None,
    checkpoint: Checkpoint | None = None,
) -> Round:
    """Run a corrected round of AutoSparse's IRP (arXiv 2408.14757, section 3) that keeps `keep` weights.

    Rewind a fresh network to the whole initial state and the last round's masks, train, rank the surviving weights of
    all layers together. `initial` may be the state after `begin` steps, which training then skips. A `team` trains in
    data parallel; an interrupted training continues from its `checkpoint`.
    """
    model = load_state(build(), initial)
    losses = train(
        model, training, recipe, generator, masks=masks, begin=begin, observe=observe, team=team, checkpoint=checkpoint
    )
    weights = {name: weight.detach() for name, weight in prunable_weights(model).items()}
    scores = rank(rank_by, model, weights, initial, training, generator)
    reached = accuracy(model, validation, recipe.precision, batch=evaluation_batch)
    return Round(prune_survivors(scores, masks, keep), scores, losses, reached)


def rank(
    by: RankBy,
    model: torch.nn.Module,
    weights: Tensors,
    initial: Mapping[str, torch.Tensor],
    training: Images,
    generator: torch.Generator,
) -> Tensors:
    """Return scores of trained weights; higher is kept.

    `magnitude`, `movement` and `magnitude_increase` are those of Zhou et al. 2019 ("Deconstructing lottery tickets",
    section 3), relative to the rewound state; `snip` is |w g| (Lee et al. 2019) after training.
    """
    match by:
        case "magnitude":
            return {name: weight.abs() for name, weight in weights.items()}
        case "movement":
            return {name: (weight - initial[name].to(weight.device)).abs() for name, weight in weights.items()}
        case "magnitude_increase":
            return {name: weight.abs() - initial[name].to(weight.device).abs() for name, weight in weights.items()}
        case "snip":
            images = images_for(model, training)
            evidence = Evidence.dense(
                model, (), lambda count: images.sample(count, generator), generator, lambda: torch.zeros(1)
            )
            scores: Tensors = snip(evidence, images=min(RANK_IMAGES, len(images)), mode="evaluation")
            return scores


def keep_after(total: int, per_round: float, number: int, of: PerRoundOf = "remaining") -> int:
    """Return the weights left after `number` rounds that each remove a share, of the `remaining` or of `all`.

    Rounded from the start, not from the round before, so that errors do not accumulate; below 0 if too few are left.
    """
    if of == "all":
        return total - round(number * per_round * total)
    return round((1 - per_round) ** number * total)


def rounds_to(total: int, per_round: float, keep: int, of: PerRoundOf = "remaining", *, most: float = math.inf) -> int:
    """Return the number of rounds that separate the `keep` longest-surviving weights from the others.

    The first round that leaves at most `keep`; on a linear schedule at most the last round that leaves any. The count
    stops at `most`.
    """
    number = 1
    while (
        number < most
        and keep_after(total, per_round, number, of) > keep
        and keep_after(total, per_round, number + 1, of) >= 1
    ):
        number += 1
    return number


def survival_order(rounds: Iterable[tuple[Tensors, Tensors]]) -> Tensors:
    """Return a total order of all weights, float64, from the masks and scores of every round, the first round first.

    The integer part is the last round, from 0, that ranked the weight; the fraction is its rank there, ties in order.
    The k highest are the weights left after the round that keeps k.
    """
    order: Tensors = {}
    for number, (masks, scores) in enumerate(rounds):
        if not order:
            order = {name: torch.zeros(mask.shape, dtype=torch.float64) for name, mask in masks.items()}
            alive = {name: torch.ones(mask.shape, dtype=torch.bool) for name, mask in masks.items()}
        ranks = together({name: scores[name].cpu().masked_fill(~alive[name], -torch.inf) for name in order}, ranks_of)
        order = {name: torch.where(alive[name], number + ranks[name], part) for name, part in order.items()}
        alive = {name: masks[name].cpu().bool() for name in order}
        # The next round reorders the survivors. Without one they keep this round's ranks, above the removed weights.
    return order


def prune_survivors(scores: Tensors, masks: Mapping[str, torch.Tensor] | None, keep: int) -> Tensors:
    """Keep the `keep` highest scores among the surviving weights of all layers; ties keep the first."""
    alive = {
        name: score if masks is None else score.masked_fill(~masks[name].to(score.device).bool(), -torch.inf)
        for name, score in scores.items()
    }
    return together(alive, lambda values: keep_top(values, keep))


def survival(rounds: Sequence[Mapping[str, torch.Tensor]]) -> Tensors:
    """Return the number of rounds each weight survived, 0 to `len(rounds)`, int16, shaped as the weight.

    A weight pruned in round 1 has label 0 (AutoSparse, arXiv 2408.14757, section 3).
    """
    return {
        name: torch.stack([masks[name].to(torch.int16) for masks in rounds]).sum(dim=0, dtype=torch.int16)
        for name in rounds[0]
    }


def rounds_that_learned(accuracies: Sequence[float], labels: torch.Tensor) -> int:
    """Return the number of rounds up to the last one whose network learned anything.

    `accuracies` are of each round's network, in %, on images of these `labels`. A network within three standard errors
    of predicting the commonest class has learned nothing: its pruning says nothing about its weights.
    """
    chance = float(labels.bincount().max()) / len(labels)
    limit = 100 * (chance + 3 * math.sqrt(chance * (1 - chance) / len(labels)))
    return next((n for n in range(len(accuracies), 0, -1) if accuracies[n - 1] > limit), 0)


def rounds_to_describe(rounds: int, most: int) -> list[int]:
    """Return at most `most` of the rounds 1 to `rounds`, evenly spaced from the first to the last."""
    if rounds <= most:
        return list(range(1, rounds + 1))
    return [1 + round(index * (rounds - 1) / max(1, most - 1)) for index in range(most)]


def round_by_round(
    evidence: Evidence, rounds: Sequence[Mapping[str, torch.Tensor]], most: int
) -> Iterator[tuple[int, Evidence, Tensors]]:
    """Yield at most `most` rounds: number, network under the masks before it, masks after it."""

    def near(masks: Mapping[str, torch.Tensor]) -> Tensors:
        return {name: mask.to(evidence.weights[name].device) for name, mask in masks.items()}

    for number in rounds_to_describe(len(rounds), most):
        begins = evidence if number == 1 else evidence.masked(near(rounds[number - 2]))
        yield number, begins, near(rounds[number - 1])
