"""A cell of the comparison: which steps make one of its networks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """One network of the comparison: a method within a budget and a seed, and its steps' names."""

    method: str
    budget: str
    """what the budget is called: `0.99`, `120k parameters`"""
    sparsity: float | None
    """None until masks are made, where it depends on them: within multiply-adds"""
    seed: int
    role: str
    """`method`, `control`, `compared` or `dense`"""
    train: str
    evaluate: str
    mask: str | None
