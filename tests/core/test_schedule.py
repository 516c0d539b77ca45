"""In how many rounds a network is pruned."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autosparse.core.presets import PRESETS
from autosparse.core.schedule import exponential_counts, linear_counts, schedules

Counts = Callable[[int, int, int], list[int]]


@pytest.mark.parametrize("counts_of", [exponential_counts, linear_counts])
@given(total=st.integers(1, 30_000_000), rounds=st.integers(1, 120), data=st.data())
def test_counts_fall_to_keep(counts_of: Counts, total: int, rounds: int, data: st.DataObject) -> None:
    """Counts never rise, never exceed the total and end at `keep`."""
    keep = data.draw(st.integers(0, total))

    counts = counts_of(total, keep, rounds)

    assert keep == counts[-1]
    assert total >= counts[0]
    assert rounds == len(counts)
    assert all(later <= earlier for earlier, later in pairwise(counts))


@pytest.mark.parametrize("counts_of", [exponential_counts, linear_counts])
def test_sparsity_zero_prunes_nothing(counts_of: Counts) -> None:
    """Keeping everything keeps everything in every round."""
    assert {1000} == set(counts_of(1000, 1000, 7))


def test_counts_by_hand() -> None:
    """Exponential keeps equal shares, linear prunes equal numbers."""
    assert [1000, 100, 10] == exponential_counts(10000, 10, 3)
    assert [70, 40, 10] == linear_counts(100, 10, 3)


def test_synflow_prunes_in_a_hundred_rounds() -> None:
    """The published SynFlow has 100 exponential rounds, each of which prunes something."""
    choice = PRESETS["synflow"][1]["schedule"]
    counts = exponential_counts(270_000, 2_700, choice["rounds"])

    assert "exponential" == choice["name"]
    assert choice["name"] in schedules
    assert 100 == len(set(counts))
    assert 27_000 == counts[49]
