"""Kinds of faults: each yields the trials of a campaign in an order that a seed decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Protocol

from tests.faults.commands import References
from tests.faults.judge import Verdict


@dataclass(frozen=True)
class Trial:
    """One fault: the sentence that reproduces it, and the function that tries it."""

    text: str
    judge: Callable[[], Verdict]
    inputs: int = 1
    """number of faults that it stands for"""


class Kind(Protocol):
    """Function that yields the trials of one kind of fault; finite or endless."""

    def __call__(self, known: References, random: Random) -> Iterator[Trial]: ...
