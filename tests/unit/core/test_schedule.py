"""In how many rounds a network is pruned."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from autosparse.core.allocation import Impossible
from autosparse.core.evidence import Evidence
from autosparse.core.presets import PRESETS
from autosparse.core.schedule import Pruning, exponential_counts, linear_counts, schedules
from autosparse.core.selection import keep_top
from tests.unit.core.conftest import evidence_of

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


def pruning_of(scores: list[list[float]], keep: int, allocate: Any = None) -> tuple[Pruning, list[list[bool]]]:
    """A pruning of four weights in one layer whose rounds use given scores, and the masks of each round."""
    network = nn.Sequential(nn.Linear(4, 1, bias=False))
    queue, seen = iter(scores), []

    def score(evidence: Evidence) -> dict[str, torch.Tensor]:
        seen.append(evidence.masks["0.weight"].flatten().bool().tolist())
        return {"0.weight": torch.tensor([next(queue)])}

    def select(scores: dict[str, torch.Tensor], quotas: dict[str, int], evidence: Evidence) -> dict[str, torch.Tensor]:
        return {name: keep_top(part, quotas[name]) for name, part in scores.items()}

    evidence = evidence_of(network, (4,))
    return Pruning(
        evidence, 4, keep, score, allocate or (lambda scores, layers, keep: {"0.weight": keep}), select
    ), seen


def kept_weights(masks: dict[str, torch.Tensor]) -> list[bool]:
    """The mask of the only layer."""
    return masks["0.weight"].flatten().tolist()


def test_regrowth_brings_a_pruned_weight_back() -> None:
    """A pruned weight returns when the next round scores it higher, and never without regrowth."""
    scores = [[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 9.0]]

    (regrown, seen), (pruned, _) = pruning_of(scores, 1), pruning_of(scores, 1)

    assert [False, False, False, True] == kept_weights(regrown.in_rounds([2, 1], regrow=True))
    assert [False, True, False, False] == kept_weights(pruned.in_rounds([2, 1]))
    assert [[True] * 4, [True, True, False, False]] == seen


def test_a_round_that_tells_nothing_brings_nothing_back() -> None:
    """When the pruned network lets nothing through, every score is zero: the round prunes what the last one left."""
    regrown, _ = pruning_of([[1.0, 2.0, 3.0, 4.0], [0.0] * 4], 1)

    assert [False, False, True, False] == kept_weights(regrown.in_rounds([2, 1], regrow=True))


@pytest.mark.parametrize("name", ["linear", "exponential"])
def test_schedules_regrow_when_they_are_told_to(name: str) -> None:
    """`regrow` is off by default."""
    scores = [[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 9.0]]
    entry = schedules[name]

    assert not kept_weights(entry.function(pruning_of(scores, 1)[0], rounds=2))[3]
    assert kept_weights(entry.function(pruning_of(scores, 1)[0], rounds=2, regrow=True))[3]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_not_finite_are_refused(value: float) -> None:
    """Neither not-a-number nor infinity passes for a score; the error names the layer."""
    pruning, _ = pruning_of([[1.0, value, 2.0, value]], 1)

    with pytest.raises(ValueError, match=r"2 scores of layer 0\.weight are not finite numbers"):
        pruning.in_rounds([1])


def test_early_rounds_keep_what_there_is_room_for() -> None:
    """An allocation that has room for two gets two in the rounds before the last, and refuses more in the last."""

    def allocate(scores: Any, layers: Any, keep: int) -> dict[str, int]:
        if keep > 2:
            raise Impossible("too many", 0, 2)
        return {"0.weight": keep}

    fits, seen = pruning_of([[1.0, 2.0, 3.0, 4.0]] * 2, 1, allocate)

    assert [False, False, False, True] == kept_weights(fits.in_rounds([3, 1]))
    assert [False, False, True, True] == seen[1]
    with pytest.raises(Impossible):
        pruning_of([[1.0, 2.0, 3.0, 4.0]], 3, allocate)[0].in_rounds([3])
