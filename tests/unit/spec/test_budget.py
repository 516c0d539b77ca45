"""Budgets as people write them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from autosparse.errors import UsageError
from autosparse.spec import Amount, RelativeAmount, find_budget
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
        ({"macs": "30"}, Amount("macs", 30)),
        ({"macs": "30%"}, RelativeAmount("macs", Fraction(3, 10), "30%")),
        ({"parameters": "12.5 %"}, RelativeAmount("parameters", Fraction(1, 8), "12.5%")),
        ({"bytes": "100%"}, RelativeAmount("bytes", Fraction(1), "100%")),
        ({"macs": "4x"}, RelativeAmount("macs", Fraction(1, 4), "4x")),
        ({"macs": "3 X"}, RelativeAmount("macs", Fraction(1, 3), "3x")),
        ({"macs": "1x"}, RelativeAmount("macs", Fraction(1), "1x")),
        ({"latency": "5ms"}, Amount("latency", 5_000_000)),
        ({"latency": "1.25 us"}, Amount("latency", 1250)),
        ({"latency": "3\u00b5s"}, Amount("latency", 3000)),
        ({"latency": "3\u03bcs"}, Amount("latency", 3000)),
        ({"latency": "2x"}, RelativeAmount("latency", Fraction(1, 2), "2x")),
        ({"latency": "50%", "batch": 1, "runtime": "onnxruntime"}, RelativeAmount("latency", Fraction(1, 2), "50%")),
        (
            {"latency": "2x", "threads": 2, "batch": 32},
            RelativeAmount("latency", Fraction(1, 2), "2x", (("batch", 32), ("threads", 2))),
        ),
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
        (
            {"params": 1},
            "must be in parameters, macs, bytes or latency but is in 'params'",
            "did you mean `parameters`?",
        ),
        ({"flops": 1}, "but is in 'flops'", "currencies: parameters, macs, bytes, latency"),
        ({3: 1}, "but is in 3", ""),
        ({"macs": 0}, "must be a whole number above 0", ""),
        ({"macs": -5}, "but is -5", ""),
        ({"macs": True}, "but is true", ""),
        ({"macs": None}, "must be a whole number", ""),
        ({"macs": [5]}, "must be a whole number", ""),
        ({"macs": float("inf")}, "but is inf", ""),
        ({"macs": 2**53}, "must be a whole number", ""),
        ({"macs": 1.5}, "but is 1.5", "1.5 is not whole"),
        ({"macs": 0.3}, "or a share such as 30% or 4x but is 0.3", "for 30 % of the dense network write 30%"),
        ({"macs": "0.125"}, "but is '0.125'", "for 12.5 % of the dense network write 12.5%"),
        ({"macs": 1e-300}, "but is 1e-300", "1e-300 is not whole"),
        ({"macs": "0%"}, "must be above 0% and at most 100% but is 0%", "30% keeps at most 30 %"),
        ({"bytes": "101 %"}, "at most 100% but is 101 %", "of the dense network's bytes"),
        ({"macs": "-3%"}, "but is -3%", ""),
        ({"macs": "0.5x"}, "must be at least 1x but is 0.5x", "4x keeps at most a quarter"),
        ({"macs": "30 %%"}, "but is '30 %%'", "such as 5M"),
        ({"macs": "30 percent"}, "but is '30 percent'", "units: k, M, G, %, x"),
        ({"sparsity": "99%"}, "but is in 'sparsity'", "a sparsity stands alone: 99%"),
        ("30% macs", "must be a number", "in a spec write {macs: 30%}"),
        ("macs = 30%", "must be a number", "in a spec write {macs: 30%}"),
        ({"macs": "1.0005k"}, "but is '1.0005k'", "1000.5 is not whole"),
        ({"macs": "5m"}, "but is '5m'", "did you mean `5M`?"),
        ({"parameters": "120K"}, "but is '120K'", "did you mean `120k`?"),
        ({"parameters": "1,200"}, "but is '1,200'", "write 1200"),
        ({"parameters": "12kB"}, "but is '12kB'", "did you mean {bytes: 12kB}?"),
        ({"parameters": "5T"}, "but is '5T'", "units: k, M, G"),
        ({"bytes": "500KB"}, "but is '500KB'", "500kB is 500 x 1000 bytes, 500KiB 500 x 1024"),
        ({"bytes": "2mib"}, "but is '2mib'", "did you mean `2MiB`?"),
        ("5ms", "must be a number", "did you mean {latency: 5ms}?"),
        ({"latency": 5}, "must be a time with its unit, or 2x or 50%, but is 5", "did you mean `5ms` or `5x`?"),
        ({"latency": "5ms", "thread": 1}, "but is in 'thread'", "did you mean `threads`?"),
        ({"latency": 0.5}, "must be a time with its unit", "2x for half of the time"),
        ({"latency": "5"}, "must be a time of whole nanoseconds above 0", "did you mean `5ms` or `5x`?"),
        ({"latency": "5MS"}, "but is '5MS'", "did you mean `5ms`?"),
        ({"latency": "0ms"}, "but is '0ms'", ""),
        ({"latency": "0.5x"}, "must be at least 1x but is 0.5x", ""),
        ({"latency": "2x", "batch": 0}, "must be a whole number from 1 to 4096 but is 0", "such as `batch: 2`"),
        ({"latency": "2x", "batch": True}, "from 1 to 4096 but is true", ""),
        ({"latency": "2x", "threads": "all"}, "from 1 to 1024 but is 'all'", ""),
        ({"latency": "2x", "runtime": "tensorrt"}, "must be onnxruntime but is 'tensorrt'", "no other runtime"),
        ({"macs": "5M", "batch": 1}, "is a condition of a latency, but the budget is in macs", "remove `batch`"),
        ({"batch": 1}, "must name one currency but names none", ""),
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
        (Amount("latency", 5_000_000), "5ms"),
        (Amount("latency", 1_234_567), "1234567ns"),
        (Amount("latency", 2_500_000_000, (("threads", 1),)), "2.5s, 1 thread"),
        (RelativeAmount("latency", Fraction(1, 2), "2x"), "2x latency"),
        (RelativeAmount("latency", Fraction(1, 2), "2x", (("batch", 32),)), "2x latency, batch 32"),
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


@given(
    st.sampled_from(["parameters", "macs", "bytes"]),
    st.decimals(1, 100, places=12).map(lambda number: f"{number:f}"),
    st.sampled_from(["%", " %", "x", " X"]),
)
@example("macs", "007.50", "%")
@example("macs", "100", "X")
def test_relative_amounts_are_exact(currency: str, number: str, unit: str) -> None:
    """A name read back is the same budget, and so is the spec that `render` prints; a share is exact."""
    budget = WRITTEN.validate_python({currency: number + unit})
    name, _, named = str(budget).partition(" ")

    assert (currency, Fraction(number) / 100 if "%" in unit else 1 / Fraction(number)) == (named, budget.share)
    for again in ({currency: name}, WRITTEN.dump_python(budget, mode="json")):
        assert (budget, str(budget)) == ((read := WRITTEN.validate_python(again)), str(read))


def test_a_budget_goes_by_any_notation() -> None:
    """A command that names a budget of a run takes its name, or any way to write it."""
    budgets = (0.9, Amount("parameters", 2000), RelativeAmount("macs", Fraction(1, 4), "4x"))
    ways: list[list[Any]] = [
        [0.9, "0.9", "90%", "10x"],
        ["2k parameters", "parameters=2k", "parameters=2000", {"parameters": "2k"}],
        ["4x macs", "macs=4x", "macs=25%", {"macs": "25 %"}],
    ]

    assert [[budget] * len(some) for budget, some in zip(budgets, ways, strict=True)] == [
        [find_budget(budgets, way) for way in some] for some in ways
    ]
    assert find_budget(budgets, "macs=30%") is None
    for wrong, message in (("much", "must be a number"), ([0.9, 0.8], "must be one budget but is 2")):
        with pytest.raises(UsageError, match=message):
            find_budget(budgets, wrong)  # type: ignore[arg-type]
