"""Iterative rewind pruning (IRP): one round trains, ranks, prunes and leaves a mask for the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from autosparse.core.images import Images
from autosparse.core.selection import keep_top
from autosparse.core.training import Observe, Recipe, accuracy, train
from autosparse.core.weights import Tensors, prunable_weights, total_of
from autosparse.lazy import torch


@dataclass(frozen=True)
class Round:
    """What a round leaves: its masks, the scores it ranked by, and how good the network was before pruning."""

    masks: Tensors
    scores: Tensors
    losses: list[float]
    validation_accuracy: float


def irp_round(
    build: Callable[[], torch.nn.Module],
    initial: Mapping[str, torch.Tensor],
    masks: Mapping[str, torch.Tensor] | None,
    *,
    number: int,
    per_round: float,
    training: Images,
    validation: Images,
    recipe: Recipe,
    generator: torch.Generator,
    evaluation_batch: int = 1000,
    observe: Observe = lambda done, total: None,
) -> Round:
    """Round `number` (from 1) of AutoSparse's IRP (arXiv 2408.14757, section 3), as it should have been.

    Rewind first: a fresh network takes the whole initial state (weights, biases, BatchNorm parameters and
    statistics, bit for bit), then the last round's masks. Train, rank the surviving weights of all layers
    together by magnitude, and keep `round((1 - per_round) ** number * total)` of them.
    """
    model = rewind(build(), initial)
    losses = train(model, training, recipe, generator, masks=masks, observe=observe)
    weights = {name: weight.detach() for name, weight in prunable_weights(model).items()}
    scores = {name: weight.abs() for name, weight in weights.items()}
    keep = keep_after(total_of(weights), per_round, number)
    return Round(
        masks=prune_survivors(scores, masks, keep),
        scores=scores,
        losses=losses,
        validation_accuracy=accuracy(model, validation, recipe.precision, batch=evaluation_batch),
    )


def rewind(model: torch.nn.Module, initial: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """Give a network its whole initial state back: parameters and buffers, bit for bit."""
    model.load_state_dict(dict(initial), strict=True)
    return model


def keep_after(total: int, per_round: float, number: int) -> int:
    """How many weights are left after `number` rounds."""
    return round((1 - per_round) ** number * total)


def prune_survivors(scores: Tensors, masks: Mapping[str, torch.Tensor] | None, keep: int) -> Tensors:
    """The `keep` highest scores among the surviving weights of all layers; of equal ones the first."""
    alive = {
        name: score if masks is None else score.masked_fill(~masks[name].to(score.device).bool(), -torch.inf)
        for name, score in scores.items()
    }
    chosen = keep_top(torch.cat([score.flatten() for score in alive.values()]), keep)
    parts = chosen.split([score.numel() for score in alive.values()])
    return {name: part.view(scores[name].shape) for name, part in zip(alive, parts, strict=True)}
