"""Random selections: weights drawn uniformly (`shuffle`) or in proportion to their scores (`sampled`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

from annotated_types import Gt

from autosparse.core.evidence import Evidence
from autosparse.core.selection._base import keep_top, selections
from autosparse.core.weights import Tensors
from autosparse.lazy_torch import torch
from autosparse.registry import Range


@selections.register(blind=True, draws=True, source="Su et al. 2020; Frankle et al. 2021")
def shuffle(scores: Tensors, quotas: Mapping[str, int], evidence: Evidence) -> Tensors:
    """Any weights: the layer's quota filled at random, which shows what a score's quotas alone are worth."""
    return {name: keep_top(_drawn(values, evidence.generator), quotas[name]) for name, values in scores.items()}


@selections.register(draws=True, source="Kool et al. 2019, Gumbel top-k")
def sampled(
    scores: Tensors,
    quotas: Mapping[str, int],
    evidence: Evidence,
    *,
    temperature: Annotated[
        float, Gt(0), Range(0.01, 10, log=True), "0.01 is almost the highest scores, 100 almost any weights"
    ] = 1.0,
) -> Tensors:
    """Drawn by softmax of a layer's standardized scores over `temperature` (Kool et al. 2019, Gumbel top-k).

    One after the other without putting back: adding Gumbel noise and keeping the highest does just that, in
    logarithms, so that no probability underflows and the count is exact. Standard deviations make it the same for
    scores of any scale; a layer of equal scores is drawn uniformly.
    """
    return {
        name: keep_top(_standard(values) / temperature + _gumbel(values, evidence.generator), quotas[name])
        for name, values in scores.items()
    }


def _drawn(scores: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    drawn = torch.rand(scores.shape, generator=generator, device="cpu").to(scores.device)
    return drawn.masked_fill(scores == -math.inf, -math.inf)


def _standard(scores: torch.Tensor) -> torch.Tensor:
    values = scores.double()
    if bool(values.isnan().any()):
        return values  # `keep_top` tells
    alive = values[values.isfinite()]
    if not alive.numel():
        return values
    spread = alive.std(unbiased=False)
    # Pruned weights stay at -inf.
    return (values - alive.mean()) / torch.where(spread > 0, spread, 1.0)


def _gumbel(scores: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    uniform = torch.rand(scores.shape, generator=generator, dtype=torch.float64, device="cpu")
    return -(-uniform.clamp_min(1e-300).log()).log().to(scores.device)
