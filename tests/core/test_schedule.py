"""In how many rounds a network is pruned."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autosparse.core.presets import PRESETS
from autosparse.core.schedule import schedules


@pytest.mark.parametrize("name", schedules.names)
@given(total=st.integers(1, 30_000_000), data=st.data())
def test_counts_fall_to_keep(name: str, total: int, data: st.DataObject) -> None:
    """Counts never rise, never exceed the total and end at `keep`."""
    keep = data.draw(st.integers(0, total))
    options = {"rounds": data.draw(st.integers(1, 120))} if "rounds" in schedules[name].options else {}

    counts = schedules[name].function(total, keep, **options)

    assert keep == counts[-1]
    assert total >= counts[0]
    assert options.get("rounds", 1) == len(counts)
    assert all(later <= earlier for earlier, later in pairwise(counts))


@pytest.mark.parametrize("name", schedules.names)
def test_sparsity_zero_prunes_nothing(name: str) -> None:
    """Keeping everything keeps everything in every round."""
    assert {1000} == set(schedules[name].function(1000, 1000))


def test_schedules_by_hand() -> None:
    """One shot has one round, exponential keeps equal shares, linear prunes equal numbers."""
    assert [10] == schedules["one_shot"].function(100, 10)
    assert [1000, 100, 10] == schedules["exponential"].function(10000, 10, rounds=3)
    assert [70, 40, 10] == schedules["linear"].function(100, 10, rounds=3)


def test_synflow_prunes_in_a_hundred_rounds() -> None:
    """The published SynFlow has 100 exponential rounds, each of which prunes something."""
    choice = PRESETS["synflow"][1]["schedule"]
    counts = schedules[choice["name"]].function(270_000, 2_700, rounds=choice["rounds"])

    assert 100 == len(set(counts))
    assert 27_000 == counts[49]
