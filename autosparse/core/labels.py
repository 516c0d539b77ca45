"""Masks of the pruning rounds -> survival labels, of all rounds together or of one after another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from autosparse.core.evidence import Evidence
from autosparse.core.weights import Tensors
from autosparse.lazy import torch


def survival(rounds: Sequence[Mapping[str, torch.Tensor]]) -> Tensors:
    """How many rounds each weight survived, 0 to `len(rounds)`, int16, shaped as the weight.

    A weight pruned in round 1 has label 0 (AutoSparse, arXiv 2408.14757, section 3).
    """
    first = rounds[0]
    return {
        name: torch.stack([masks[name].to(torch.int16) for masks in rounds]).sum(dim=0, dtype=torch.int16)
        for name in first
    }


def rounds_that_learned(accuracies: Sequence[float], labels: torch.Tensor) -> int:
    """How many rounds come before those at the end whose networks no longer learn anything.

    `accuracies` are those of the network that each round trains, in %, on validation images whose labels are `labels`.
    One that is within three standard errors of always naming the commonest class has learned nothing, and what it
    prunes tells nothing of its weights.
    """
    chance = float(labels.bincount().max()) / len(labels)
    limit = 100 * (chance + 3 * math.sqrt(chance * (1 - chance) / len(labels)))
    return next((n for n in range(len(accuracies), 0, -1) if accuracies[n - 1] > limit), 0)


def rounds_to_describe(rounds: int, most: int) -> list[int]:
    """At most `most` of the rounds 1 to `rounds`, evenly spread from the first to the last."""
    if rounds <= most:
        return list(range(1, rounds + 1))
    return [1 + round(place * (rounds - 1) / max(1, most - 1)) for place in range(most)]


def round_by_round(
    evidence: Evidence, rounds: Sequence[Mapping[str, torch.Tensor]], most: int
) -> Iterator[tuple[int, Evidence, Tensors]]:
    """What at most `most` rounds find and leave: number, network under the masks it begins with, masks after it."""
    for number in rounds_to_describe(len(rounds), most):
        left = {name: mask.to(evidence.weights[name].device) for name, mask in rounds[number - 1].items()}
        if number == 1:
            yield number, evidence, left
        else:
            found = {name: mask.to(evidence.weights[name].device) for name, mask in rounds[number - 2].items()}
            yield number, evidence.masked(found), left
