"""Criteria: evidence about a network at initialization -> scores, name -> tensor; higher is kept.

A criterion scores every weight once, pruned ones too: rounds and regrowth belong to the schedule. A registration states
the cost, as numbers or functions of the options: gradients over its `images` (`gradients`), Hessian-vector products
over them (`hessian_products`), SynFlow passes (`flows`), feature tables of every weight (`features`), copies of the
parameters (`states`). `source` is the paper and equation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeAlias

from annotated_types import Ge

from autosparse.core.evidence import Mode
from autosparse.core.weights import Tensors
from autosparse.registry import Registry

criteria: Registry[Callable[..., Tensors]] = Registry("criterion", "criteria")

Parts: TypeAlias = Annotated[
    int,
    Ge(1),
    "number of microbatches, each with its own BatchNorm statistics: the gradient is their mean, the peak memory that "
    "of one",
]

ScoringMode: TypeAlias = Annotated[
    Mode,
    "mode of the forward pass: training (as in the papers: BatchNorm on batch statistics, dropout on) or evaluation "
    "(running statistics, 0 and 1 at initialization)",
]
