"""Masks of the pruning rounds -> survival labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
