"""Which weights are kept: exact counts, deterministic ties."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autosparse.core.selection import keep_top, selections
from tests.core.conftest import seeded

SCORES = st.lists(st.sampled_from([-math.inf, -2.0, -0.0, 0.0, 1.0, 1e-30, 3.5, math.inf]), min_size=1, max_size=40)


@given(scores=SCORES, share=st.floats(0, 1))
def test_keep_top_agrees_with_sorting(scores: list[float], share: float) -> None:
    """The kept scores are the largest, exactly as many as asked for, of equal ones the first."""
    alive = [index for index, score in enumerate(scores) if score > -math.inf]
    count = round(share * len(alive))

    mask = keep_top(torch.tensor(scores), count)

    assert sorted(sorted(alive, key=lambda index: (-scores[index], index))[:count]) == mask.nonzero().flatten().tolist()


@given(scores=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60), data=st.data())
def test_masks_of_falling_counts_are_nested(scores: list[float], data: st.DataObject) -> None:
    """What a smaller count keeps, a larger one keeps too."""
    more = data.draw(st.integers(0, len(scores)))
    fewer = data.draw(st.integers(0, more))
    values = torch.tensor(scores)

    assert not bool((keep_top(values, fewer) & ~keep_top(values, more)).any())


@pytest.mark.parametrize("count", range(7))
def test_equal_scores_keep_the_first(count: int) -> None:
    """When all scores are equal the first positions are kept, in the scores' own shape."""
    mask = keep_top(torch.full((2, 3), 0.25), count)

    assert [index < count for index in range(6)] == mask.flatten().tolist()
    assert (2, 3) == mask.shape


def test_single_weight() -> None:
    """A single weight is kept or not, as the count says."""
    assert [True] == keep_top(torch.tensor([0.0]), 1).tolist()
    assert [False] == keep_top(torch.tensor([0.0]), 0).tolist()


def test_position_is_logical_and_not_in_memory() -> None:
    """Ties break by position in the tensor as indexed, whatever its layout in memory."""
    scores = torch.zeros(2, 3, 2, 2)
    in_other_layout = scores.contiguous(memory_format=torch.channels_last)

    assert torch.equal(keep_top(scores, 7), keep_top(in_other_layout, 7))


def test_ties_at_the_threshold_do_not_crowd_out_higher_scores() -> None:
    """A higher score far behind is kept before the first of the tied ones."""
    mask = keep_top(torch.tensor([1.0, 1.0, 1.0, 2.0]), 2)

    assert [True, False, False, True] == mask.tolist()


def test_not_a_number_is_refused() -> None:
    """A score that is not a number is an error that says how many there are, even when nothing is kept."""
    scores = torch.tensor([1.0, math.nan, math.nan])

    for count in (0, 1, 3):
        with pytest.raises(ValueError, match="2 of 3 scores are not numbers"):
            keep_top(scores, count)


def test_pruned_weights_are_never_kept() -> None:
    """Asking for more weights than have a score above -inf is an error."""
    scores = torch.tensor([1.0, -math.inf, 2.0])

    assert [True, False, True] == keep_top(scores, 2).tolist()
    with pytest.raises(ValueError, match="3 weights cannot be kept of the 2"):
        keep_top(scores, 3)


@pytest.mark.parametrize("name", selections.names)
class TestEverySelection:
    """Whatever a selection prefers, it keeps its quota."""

    def test_count_is_exact(self, name: str) -> None:
        """Exactly `count` weights are kept, none of them pruned before, and the scores stay as they were."""
        scores = torch.rand(4, 5, generator=seeded())
        scores[1] = -math.inf
        before = scores.clone()

        for count in range(16):
            mask = selections[name].function(scores, count, seeded(count))

            assert count == int(mask.sum())
            assert torch.bool == mask.dtype
            assert scores.shape == mask.shape
            assert not bool(mask[1].any())
        assert torch.equal(before, scores)

    def test_generator_decides(self, name: str) -> None:
        """The same generator gives the same mask, and the global one is not touched."""
        scores = torch.rand(50, generator=seeded())
        state = torch.get_rng_state()

        first, second = (selections[name].function(scores, 20, seeded(7)) for _ in range(2))

        assert torch.equal(first, second)
        assert torch.equal(state, torch.get_rng_state())


def test_random_ignores_the_scores() -> None:
    """Random selection depends on the generator and not on the scores."""
    scores = torch.arange(100.0)

    first = selections["random"].function(scores, 50, seeded(1))
    reversed_ = selections["random"].function(scores.flip(0), 50, seeded(1))
    other = selections["random"].function(scores, 50, seeded(2))

    assert torch.equal(first, reversed_)
    assert not torch.equal(first, other)
    assert not torch.equal(first, keep_top(scores, 50))
