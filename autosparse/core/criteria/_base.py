"""Criteria: evidence about a network at initialization -> scores, name -> tensor; higher is kept.

A criterion always gives its one-shot score; rounds of re-scoring belong to the schedule. It scores every weight: one
that is pruned for what it would bring back, and the schedule decides whether it may. What a score costs is stated with
the registration, in units of one gradient over its `images` (`gradients`), one SynFlow pass (`flows`), one description
of every weight (`features`), copies of the parameters (`states`), each a number or a function of the options; `source`
is the paper and equation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeAlias

from annotated_types import Ge

from autosparse.core.evidence import Mode
from autosparse.core.weights import Tensors
from autosparse.registry import Registry

Criterion: TypeAlias = Callable[..., Tensors]
criteria: Registry[Criterion] = Registry("criterion", "criteria")


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
]
