"""Costs in dense trainings as texts."""

from __future__ import annotations

import pytest

from autosparse.text import number, trainings


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (7e-5, "<0.0001"),
        (0.00696, "0.007"),
        (0.0178, "0.018"),
        (0.5, "0.50"),
        (8.0557, "8.06"),
        (52.3, "52"),
    ],
)
def test_only_an_exact_zero_is_zero(value: float, text: str) -> None:
    """Small costs keep two digits, and the smallest have a bound."""
    assert text == trainings(value)


def test_multiply_adds_have_units_up_to_exa() -> None:
    """A training of a large network takes more than a thousand peta."""
    assert ["1.72T", "13.4P", "3E"] == [number(value) for value in (1.72e12, 13.44e15, 3e18)]
