"""Options that several criteria share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from annotated_types import Ge

from autosparse.core.evidence import Mode
from autosparse.registry import AddedLater

Parts: TypeAlias = Annotated[
    int,
    Ge(1),
    "into how many parts a batch is cut, each with its own BatchNorm statistics: the gradient is that of all, memory "
    "that of one",
]

ScoringMode: TypeAlias = Annotated[
    Mode,
    "training, as the authors do: BatchNorm on the statistics of the batch, dropout at work; evaluation: running "
    "statistics, which are 0 and 1 at initialization",
    AddedLater("training"),
]
