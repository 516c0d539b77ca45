"""Budgets as people write them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from autosparse.spec import Amount
from autosparse.spec.budget import Budget

WRITTEN: TypeAdapter[Any] = TypeAdapter(Budget)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (0.99, 0.99),
        (0, 0.0),
        ("99%", 0.99),
        ("99.5 %", 0.995),
        ("0%", 0.0),
        ("98.7%", 0.987),
        ("100x", 0.99),
        ("20X", 0.95),
        ("1x", 0.0),
        ("2.5x", 0.6),
        ({"parameters": "120k"}, Amount("parameters", 120_000)),
        ({"parameters": 120_000}, Amount("parameters", 120_000)),
        ({"parameters": "1.25 M"}, Amount("parameters", 1_250_000)),
        ({"macs": "5M"}, Amount("macs", 5_000_000)),
        ({"macs": 5e6}, Amount("macs", 5_000_000)),
        ({"macs": "2G"}, Amount("macs", 2_000_000_000)),
        ({"bytes": "500kB"}, Amount("bytes", 500_000)),
        ({"bytes": "500k"}, Amount("bytes", 500_000)),
        ({"bytes": "512 KiB"}, Amount("bytes", 524_288)),
        ({"bytes": "2MiB"}, Amount("bytes", 2_097_152)),
        ({"bytes": "77B"}, Amount("bytes", 77)),
    ],
    ids=str,
)
def test_every_way_to_write_a_budget(written: Any, expected: float | Amount) -> None:
    """A share of weights is the very float that 0.99 is, so that keys are; amounts are whole numbers."""
    assert expected == WRITTEN.validate_python(written, strict=True)


def test_percent_is_the_float_that_is_written() -> None:
    """`98.7%` is 0.987 to the last bit."""
    for tenths in range(1000):
        assert float(f"0.{tenths:03d}") == WRITTEN.validate_python(f"{tenths / 10}%")


@pytest.mark.parametrize(
    ("written", "message", "hint"),
    [
        ("99", "must be a number but is '99'", "{parameters: 120k}"),
        ("100%", "must be at least 0% and below 100% but is 100%", "99% removes 99 %"),
        ("990%", "but is 990%", "99% removes 99 %"),
        ("-1%", "but is -1%", ""),
        ("0x", "must be at least 1x but is 0x", "100x keeps one weight of 100"),
        ("0.5x", "must be at least 1x", ""),
        ("99999999999999999999x", "must leave some weights", ""),
        ("120k", "must be a number", "of what? {parameters: 120k} or {macs: 120k} or {bytes: 120k}"),
        ("500kB", "must be a number", "of what? {bytes: 500kB}"),
        ("macs=5M", "must be a number", "in a spec write {macs: 5M}"),
        ("9" * 5000 + "x", "must be a number", ""),
        (True, "must be a number but is true", ""),
        (None, "must be a number", ""),
        ({}, "must name one currency but names none", "several budgets are a list"),
        ({"macs": 1, "bytes": 1}, "but names macs and bytes", "several budgets are a list"),
        ({"params": 1}, "must be in parameters, macs or bytes but is in 'params'", "did you mean `parameters`?"),
        ({"flops": 1}, "but is in 'flops'", "currencies: parameters, macs, bytes"),
        ({3: 1}, "but is in 3", ""),
        ({"macs": 0}, "must be a whole number above 0", ""),
        ({"macs": -5}, "but is -5", ""),
        ({"macs": True}, "but is true", ""),
        ({"macs": None}, "must be a whole number", ""),
        ({"macs": [5]}, "must be a whole number", ""),
        ({"macs": float("inf")}, "but is inf", ""),
        ({"macs": 2**53}, "must be a whole number", ""),
        ({"macs": 1.5}, "but is 1.5", "1.5 is not whole"),
        ({"macs": "1.0005k"}, "but is '1.0005k'", "1000.5 is not whole"),
        ({"macs": "5m"}, "but is '5m'", "did you mean `5M`?"),
        ({"parameters": "120K"}, "but is '120K'", "did you mean `120k`?"),
        ({"parameters": "1,200"}, "but is '1,200'", "write 1200"),
        ({"parameters": "12kB"}, "but is '12kB'", "did you mean {bytes: 12kB}?"),
        ({"parameters": "5T"}, "but is '5T'", "units: k, M, G"),
        ({"bytes": "500KB"}, "but is '500KB'", "500kB is 500 x 1000 bytes, 500KiB 500 x 1024"),
        ({"bytes": "2mib"}, "but is '2mib'", "did you mean `2MiB`?"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_budgets_are_told_with_a_remedy(written: Any, message: str, hint: str) -> None:
    """The message gives the rule and the value, the hint the likely intention."""
    with pytest.raises(ValidationError) as raised:
        WRITTEN.validate_python(written)
    problem = raised.value.errors()[0]

    assert message in problem["msg"]
    assert hint in problem["ctx"]["hint"]


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (0.99, "0.99"),
        (0.0, "0.0"),
        (Amount("parameters", 120_000), "120k parameters"),
        (Amount("parameters", 125_430), "125.43k parameters"),
        (Amount("parameters", 1234), "1234 parameters"),
        (Amount("parameters", 999), "999 parameters"),
        (Amount("macs", 5_000_000), "5M macs"),
        (Amount("macs", 1_250_000_000), "1.25G macs"),
        (Amount("bytes", 500_000), "500kB"),
        (Amount("bytes", 524_288), "512KiB"),
        (Amount("bytes", 1_234_567), "1234567 bytes"),
    ],
    ids=str,
)
def test_labels_are_short(budget: float | Amount, expected: str) -> None:
    """Steps, columns and folders call a budget by a few letters."""
    assert expected == str(budget)


@given(st.sampled_from(["parameters", "macs", "bytes"]), st.integers(1, 2**53 - 1))
def test_labels_are_exact(currency: str, amount: int) -> None:
    """A label read back is the same budget, so that no two budgets share one; so is what `render` prints."""
    budget = Amount(currency, amount)
    number = str(budget).removesuffix(currency).strip()

    assert budget == WRITTEN.validate_python({currency: number})
    assert budget == WRITTEN.validate_python(WRITTEN.dump_python(budget, mode="json"))
