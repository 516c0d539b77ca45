"""Criteria: evidence about a network at initialization -> scores, name -> tensor; higher is kept.

A criterion always gives its one-shot score; rounds of re-scoring belong to the schedule. It scores every weight: one
that is pruned for what it would bring back, and the schedule decides whether it may. What a score costs is stated with
the registration, in units of one gradient over its `images` (`gradients`), one SynFlow pass (`flows`), one description
of every weight (`features`), copies of the parameters (`states`), each a number or a function of the options; `source`
is the paper and equation.
"""

from collections.abc import Callable
from typing import TypeAlias

from autosparse.core.evidence import Evidence
from autosparse.core.weights import Tensors
from autosparse.registry import Registry

Criterion: TypeAlias = Callable[..., Tensors]
criteria: Registry[Criterion] = Registry("criterion", "criteria")

from autosparse.core.criteria import grasp, irp, learned, magnitude, prospr, random, snip, synflow  # noqa: E402

__all__ = [
    "Criterion", "Evidence", "criteria", "grasp", "irp", "learned", "magnitude", "prospr", "random", "snip", "synflow",
]  # fmt: skip
