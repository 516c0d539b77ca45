"""How a network comes to its masks: in how many rounds, with what between them.

A schedule is `(pruning) -> masks`: it drives the other three choices. With more than one round the criterion scores the
network that the last round left; with re-growth weights that are pruned may come back. A schedule's `rounds` is the
number of scorings, which is what its price counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from annotated_types import Ge

from autosparse.core.allocation import Counts, Impossible
from autosparse.core.evidence import Evidence
from autosparse.core.weights import Layer, Tensors
from autosparse.lazy import torch
from autosparse.registry import AddedLater, Registry

Score: TypeAlias = Callable[[Evidence], Tensors]
Allocate: TypeAlias = Callable[[Tensors, Sequence[Layer], int], Counts]
Select: TypeAlias = Callable[[Tensors, Counts, Evidence], Tensors]


@dataclass(frozen=True)
class Pruning:
    """What a schedule drives: a network under full masks, what is to be left, and the other three choices.

    `total` and `keep` are of what `allocate` counts: weights, or multiply-adds where it is made by `budget.by_macs`.
    """

    evidence: Evidence
    total: int
    keep: int
    score: Score
    allocate: Allocate
    select: Select
    observe: Callable[[int, int], None] = lambda done, total: None

    def in_rounds(self, counts: Sequence[int], *, regrow: bool = False) -> Tensors:
        """Masks, name -> bool tensor, with exactly `counts[-1]` ones, reached in `len(counts)` rounds.

        Every round scores the network under the masks of the last one. What is pruned stays pruned, or with `regrow`
        competes with what is left, except in a round where every score is zero. An early round that asks for more
        than the allocation has room for keeps what it has room for. Raises ValueError when a score is not finite,
        naming the layer, and when every score is zero at the start: of equal scores the first are kept, and zeros
        would pass for a choice that nobody made.
        """
        evidence = self.evidence
        masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in evidence.weights.items()}
        for number, keep in enumerate(counts, start=1):
            scores = self.score(evidence)
            for name, values in scores.items():
                if not bool(values.isfinite().all()):
                    raise ValueError(f"{int((~values.isfinite()).sum())} scores of layer {name} are not finite numbers")
            told = any(bool(values.any()) for values in scores.values())
            if number == 1 and not told:
                raise ValueError("every weight has score 0: the network's last layer may begin at zero")
            scores = {name: values.detach() for name, values in scores.items()}
            if not (regrow and told):
                scores = {name: values.masked_fill(~masks[name], -math.inf) for name, values in scores.items()}
            masks = self.select(scores, self._quotas(scores, keep, last=number == len(counts)), evidence)
            if number < len(counts):
                evidence = evidence.masked(masks)
            self.observe(number, len(counts))
        return masks

    def _quotas(self, scores: Tensors, keep: int, *, last: bool) -> Counts:
        try:
            return self.allocate(scores, self.evidence.layers, keep)
        except Impossible as error:
            if last or keep < error.most:
                raise
            return self.allocate(scores, self.evidence.layers, error.most)


Schedule: TypeAlias = Callable[..., Tensors]
schedules: Registry[Schedule] = Registry("schedule", "schedules")


@schedules.register
def one_shot(pruning: Pruning) -> Tensors:
    """Score once, prune once."""
    return pruning.in_rounds([pruning.keep])


Regrow = Annotated[
    bool,
    "pruned weights may come back: all are scored, as their initial values would act on the pruned network (de Jorge "
    "et al. 2021)",
    AddedLater(False),
]


@schedules.register(source="Tanaka et al. 2020, algorithm 1; de Jorge et al. 2021")
def exponential(pruning: Pruning, *, rounds: Annotated[int, Ge(1)] = 100, regrow: Regrow = False) -> Tensors:
    """Every round keeps the same share of what is left (SynFlow's schedule: 100 rounds)."""
    return pruning.in_rounds(exponential_counts(pruning.total, pruning.keep, rounds), regrow=regrow)


@schedules.register(source="de Jorge et al. 2021")
def linear(pruning: Pruning, *, rounds: Annotated[int, Ge(1)] = 10, regrow: Regrow = False) -> Tensors:
    """Every round prunes the same number of weights."""
    return pruning.in_rounds(linear_counts(pruning.total, pruning.keep, rounds), regrow=regrow)


def exponential_counts(total: int, keep: int, rounds: int) -> list[int]:
    """How many are left after each round when every round keeps the same share."""
    return [round(total * (keep / total) ** (number / rounds)) for number in range(1, rounds + 1)]


def linear_counts(total: int, keep: int, rounds: int) -> list[int]:
    """How many are left after each round when every round prunes the same number."""
    return [total - round((total - keep) * number / rounds) for number in range(1, rounds + 1)]
