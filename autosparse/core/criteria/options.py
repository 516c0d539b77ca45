"""Options that several criteria share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from autosparse.core.evidence import Mode
from autosparse.registry import AddedLater

ScoringMode: TypeAlias = Annotated[
    Mode,
    "training, as the authors do: BatchNorm on the statistics of the batch, dropout at work; evaluation: running "
    "statistics, which are 0 and 1 at initialization",
    AddedLater("training"),
]
