"""In how many rounds a network is pruned: `(total, keep) -> counts`, one a round, the last being `keep`.

With more than one round the criterion scores the network that the last round left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeAlias

from annotated_types import Ge

from autosparse.registry import Registry

Schedule: TypeAlias = Callable[..., "list[int]"]
schedules: Registry[Schedule] = Registry("schedule", "schedules")


@schedules.register
def one_shot(total: int, keep: int) -> list[int]:
    """Score once, prune once."""
    return [keep]


@schedules.register
def exponential(total: int, keep: int, *, rounds: Annotated[int, Ge(1)] = 100) -> list[int]:
    """Every round keeps the same share of what is left (SynFlow's schedule: 100 rounds)."""
    return [round(total * (keep / total) ** (number / rounds)) for number in range(1, rounds + 1)]


@schedules.register
def linear(total: int, keep: int, *, rounds: Annotated[int, Ge(1)] = 10) -> list[int]:
    """Every round prunes the same number of weights."""
    return [total - round((total - keep) * number / rounds) for number in range(1, rounds + 1)]
