"""What a scorer's predictions are judged by while it learns: losses of a batch of scores and their targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from autosparse.lazy import torch

_CUTS = 64  # at most so many cut points: survival shares are few, unless many rounds tell them apart


@dataclass(frozen=True)
class Loss:
    """`of(scores, targets)` of a batch, both `[weights]`, and what is `learned` with the scorer and left after."""

    of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    learned: tuple[torch.Tensor, ...] = ()


Make: TypeAlias = "Callable[[Sequence[torch.Tensor], torch.Generator], Loss]"


def squared(targets: Sequence[torch.Tensor], generator: torch.Generator) -> Loss:
    """Squared error: scores are shares of rounds."""
    return Loss(torch.nn.functional.mse_loss)


def ordinal(targets: Sequence[torch.Tensor], generator: torch.Generator) -> Loss:
    """Cumulative link: cross-entropy of sigmoid(score - cut) against reaching a share, one cut point for each share.

    The cut points are learned, rise with the share, and are the same for all weights (CORAL: Cao, Mirjalili & Raschka
    2020). They begin where a score of zero predicts of every share how many weights reach it, all tables alike.
    The score orders weights without them.
    """
    shares = torch.cat([values.unique() for values in targets]).unique()[1:]
    if not len(shares):
        shares = torch.ones(1, device=targets[0].device)
    places = torch.linspace(0, len(shares) - 1, min(len(shares), _CUTS)).round().long()
    levels = shares[places.to(shares.device)]
    reached = torch.stack([(values[:, None] >= levels).float().mean(dim=0) for values in targets]).mean(dim=0)
    start = -reached.clamp(1e-3, 1 - 1e-3).logit()
    first = start[:1].clone().requires_grad_()
    gaps = start.diff().clamp_min(1e-3).expm1().log().requires_grad_()

    def of(scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        cuts = torch.cat([first, first + torch.nn.functional.softplus(gaps).cumsum(0)])
        reaches = (target[:, None] >= levels).to(scores.dtype)
        return torch.nn.functional.binary_cross_entropy_with_logits(scores[:, None] - cuts, reaches)

    return Loss(of, (first, gaps))


def pairwise(targets: Sequence[torch.Tensor], generator: torch.Generator) -> Loss:
    """Logistic loss of pairs with different targets (RankNet: Burges et al. 2005).

    Half of it are pairs inside a layer, the other half pairs of one layer and another, where there are several.
    """
    layers = len(targets)

    def of(scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        table, truth = scores.view(layers, -1), target.view(layers, -1)
        # Picks are drawn independently: a neighbour is as good as any other.
        value = _pairs(table, truth, table.roll(1, 1), truth.roll(1, 1))
        if layers > 1:
            apart = int(torch.randint(1, layers, (), generator=generator))
            value = (value + _pairs(table, truth, table.roll(apart, 0), truth.roll(apart, 0))) / 2
        return value

    return Loss(of)


def cross_entropy(targets: Sequence[torch.Tensor], generator: torch.Generator) -> Loss:
    """Binary cross-entropy: scores are log-odds."""
    return Loss(torch.nn.functional.binary_cross_entropy_with_logits)


def _pairs(
    scores: torch.Tensor, targets: torch.Tensor, other_scores: torch.Tensor, other_targets: torch.Tensor
) -> torch.Tensor:
    sign = (targets - other_targets).sign()
    each = torch.nn.functional.softplus(-sign * (scores - other_scores)) * sign.abs()
    return each.sum() / sign.abs().sum().clamp_min(1)
