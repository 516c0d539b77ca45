"""Texts of numbers and names."""

from __future__ import annotations

import pytest

from autosparse.text import plural


@pytest.mark.parametrize(
    ("number", "noun", "several", "expected"),
    [
        (0, "step", "", "0 steps"),
        (1, "step", "", "1 step"),
        (1200, "step", "", "1,200 steps"),
        (1, "class", "classes", "1 class"),
        (2, "class", "classes", "2 classes"),
    ],
)
def test_counts_agree_with_their_nouns(number: int, noun: str, several: str, expected: str) -> None:
    """One is singular, every other number plural."""
    assert expected == plural(number, noun, several)
