"""N of M: of every M consecutive inputs of an output, N weights stay, which sparse tensor cores skip the rest of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Annotated, Any

from annotated_types import Ge

from autosparse.core.allocation import Allocation, Counts
from autosparse.core.evidence import Evidence
from autosparse.core.graph.slicing import Slicing
from autosparse.core.selection import ranking, top
from autosparse.core.units._base import Unit, units
from autosparse.core.units.cost import WEIGHTS, Cost, PerWeight
from autosparse.core.weights import Layer, Tensors
from autosparse.lazy_torch import torch

NEAR = 1e-3
"""Difference up to which a sparsity is that of N of M: 1 of 3 removes 0.667."""


@dataclass(frozen=True)
class Blocks:
    """Weights that compete in blocks of `m` consecutive inputs, `n` of which stay.

    Layers whose inputs are no multiple of `m` stay whole. Masks of early rounds, and of a search before its end, hold
    those of N of M and the weights that come next in their blocks.
    """

    layers: Sequence[Layer]
    n: int
    m: int

    @cached_property
    def least(self) -> Counts:
        """Weights that N of M keeps in each layer."""
        return {
            layer.name: layer.size if layer.inputs % self.m else layer.size // self.m * self.n for layer in self.layers
        }

    def gather(self, scores: Tensors) -> Tensors:
        """Return the scores."""
        return scores

    def spread(self, chosen: Tensors) -> Tensors:
        """Return the masks."""
        return chosen

    def relative(self, scores: Tensors) -> Tensors:
        """Return scores minus the last that stays of their block: at least 0 for exactly N of M, ties by position."""
        made = dict(scores)
        for layer in self.layers:
            if not layer.inputs % self.m:
                values = scores[layer.name]
                blocks = layer.spread(values).unflatten(2, (-1, self.m)).movedim(3, 0).contiguous()
                made[layer.name] = layer.gather(self._compared(blocks).movedim(0, 3).flatten(2, 3), values.shape)
        return made

    def _compared(self, blocks: torch.Tensor) -> torch.Tensor:
        # `[m, ...]`. Ranks by comparisons: sorting rows of four takes 25 times as long.
        ranks = torch.zeros(blocks.shape, dtype=torch.int16, device=blocks.device)
        for index, scores in enumerate(blocks):
            ranks[:index] += scores > blocks[:index]
            ranks[index + 1 :] += scores >= blocks[index + 1 :]
        last = blocks.masked_fill(ranks != self.n - 1, 0).sum(dim=0)
        # -inf marks pruned weights: neither may a difference become -inf, nor -inf minus -inf a number.
        limits = torch.finfo(blocks.dtype)
        apart = (blocks - last.clamp_min(limits.min)).clamp(limits.min, limits.max)
        apart = torch.where(ranks < self.n, apart.clamp_min(0), apart.clamp_max(-limits.tiny))
        return apart.where(blocks > -math.inf, blocks)

    def filled(self, select: Callable[..., Tensors]) -> Callable[..., Tensors]:
        """Return a selection that keeps the highest of each block, of the values that `select` ranks weights by."""

        @wraps(select)
        def fill(scores: Tensors, quotas: Mapping[str, int], evidence: Evidence) -> Tensors:
            ranked = ranking(select, evidence)
            assert ranked is not None, "specs refuse selections that rank no weights"
            return top(self.relative({name: ranked(values) for name, values in scores.items()}), quotas, evidence)

        return fill

    def amount(self, limit: int, cost: Cost) -> int:
        """Return the number that N of M keeps. Raises ValueError if a limit is below it, and not its sparsity."""
        total, least = self._amounts(cost)
        if least > limit and (cost.counted != WEIGHTS or abs(limit / total - self.n / self.m) > NEAR):
            kept = f"{self.n}:{self.m} keeps {least} of {total} {cost.counted}, {least / total:.2%}"
            raise ValueError(f"{kept}, more than {limit}")
        return least

    def _amounts(self, cost: Cost) -> tuple[int, int]:
        assert isinstance(cost, PerWeight), "specs refuse a latency of single weights"
        total = sum(layer.size * cost.per_weight[layer.name] for layer in self.layers)
        return total, sum(count * cost.per_weight[name] for name, count in self.least.items())

    def limited(self, allocate: Allocation, cost: Cost) -> Allocation:
        """Return an allocation with the counts of N of M; before the last round, the same share of the others more."""
        total, least = self._amounts(cost)

        def within(scores: Tensors, layers: Sequence[Layer], limit: int) -> Counts:
            more = max(0.0, (limit - least) / (total - least))
            return {
                layer.name: self.least[layer.name] + round(more * (layer.size - self.least[layer.name]))
                for layer in layers
            }

        return within

    def slicing(self, chosen: Tensors) -> Slicing | None:
        """Return None: no tensor gets smaller."""
        return None

    def counts(self, chosen: Tensors) -> Mapping[str, Sequence[int]]:
        """Return nothing: the masks show the weights."""
        return {}


@units.register(
    sparsity=lambda options: 1 - options["n"] / options["m"], label=lambda options: f"{options['n']}:{options['m']}"
)
def n_of_m(
    evidence: Evidence,
    *,
    n: Annotated[int, Ge(1), "number of weights that stay in every block"] = 2,
    m: Annotated[int, Ge(2), "number of consecutive inputs in a block"] = 4,
) -> Unit:
    """Keep the highest N of every M consecutive inputs, for each output and position of a kernel: `2:4`.

    Sparse tensor cores of NVIDIA GPUs compute 2:4 faster. Layers whose inputs, of one group, are no multiple of M stay
    whole. The pattern gives every layer's count: no allocation applies.

    Args:
        evidence: Network under full masks.
        n: Number of weights that stay in every block, below `m`.
        m: Number of consecutive inputs in a block.

    Returns:
        The unit.

    Raises:
        ValueError: If no layer's inputs are a multiple of M.

    References:
        Mishra et al. 2021, arXiv 2104.08378 (2:4); Zhou et al. 2021, arXiv 2102.04010 (N:M from scratch).
    """
    unit = Blocks(evidence.layers, n, m)
    whole = [layer for layer in evidence.layers if layer.inputs % m]
    if len(whole) == len(evidence.layers):
        raise ValueError(f"no layer has a multiple of {m} inputs")
    if whole:
        total = sum(layer.size for layer in evidence.layers)
        share, sparsity = sum(layer.size for layer in whole) / total, 1 - sum(unit.least.values()) / total
        number = "1 layer stays" if len(whole) == 1 else f"{len(whole)} layers stay"
        evidence.note(
            f"{number} whole under {n}:{m}, with {share:.2%} of the weights, such as {whole[0].name}: its number of "
            f"inputs, {whole[0].inputs}, is no multiple of {m}; the sparsity of the network is {sparsity:.4f}"
        )
    return unit


def expanded(value: Any) -> Any:
    """Return the mapping that `2:4` or `{n: 2, m: 4}` stands for, and any other value unchanged."""
    if isinstance(value, str):
        first, colon, last = (part.strip() for part in value.partition(":"))
        if colon and all(part.isascii() and part.isdecimal() and len(part) < 6 for part in (first, last)):
            return {"name": n_of_m.__name__, "n": int(first), "m": int(last)}
    if isinstance(value, Mapping) and "name" not in value and {"n", "m"} & value.keys():
        return {"name": n_of_m.__name__, **value}
    return value
