"""The order of values: what a stable sort of them gives, bit for bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autosparse.core.selection import ascending, descending, reached_by

FLOATS = st.floats(width=32, allow_nan=False) | st.sampled_from([0.0, -0.0, 1.0, -1.0, float("inf"), float("-inf")])


@given(st.lists(FLOATS, max_size=60))
def test_it_is_that_of_a_stable_sort(numbers: list[float]) -> None:
    """Both ways, with equal values, both zeros, infinities and the smallest numbers there are."""
    values = torch.tensor(numbers)

    assert torch.equal(values.argsort(stable=True), ascending(values))
    assert torch.equal(values.argsort(stable=True, descending=True), descending(values))


@given(st.lists(FLOATS, min_size=1, max_size=30), st.data())
def test_what_so_many_values_reach(numbers: list[float], data: st.DataObject) -> None:
    """The value at that place from above, of float32 and of other numbers."""
    count = data.draw(st.integers(1, len(numbers)))
    values = torch.tensor(numbers)

    assert sorted(values.tolist(), reverse=True)[count - 1] == float(reached_by(values, count))
    assert float(reached_by(values, count)) == float(reached_by(values.double(), count))


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.int64])
def test_other_kinds_of_numbers_have_it_too(kind: torch.dtype) -> None:
    """Numbers that are no float32 are sorted by torch."""
    values = torch.tensor([3, -1, 3, 0, -1]).to(kind)

    assert [1, 4, 3, 0, 2] == ascending(values).tolist()
    assert [0, 2, 3, 1, 4] == descending(values).tolist()


def test_what_is_no_number_comes_last() -> None:
    """NaN of either sign, as in a stable sort; the values are not changed."""
    values = torch.tensor([float("nan"), 1.0, -float("nan"), -1.0])

    assert [3, 1, 0, 2] == ascending(values).tolist()
    assert [True, False, True, False] == values.isnan().tolist()


def test_a_gradient_is_no_hindrance() -> None:
    """Of a parameter as of any other vector."""
    assert [1, 0] == ascending(torch.nn.Parameter(torch.tensor([2.0, 1.0]))).tolist()
