"""Selections of weights: exact counts, deterministic ties."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from autosparse.core.allocation import allocations
from autosparse.core.criteria import criteria
from autosparse.core.evidence import Scorer
from autosparse.core.graph.paths import trace_paths
from autosparse.core.schedule import Pruning, exponential
from autosparse.core.selection import keep_top, selections
from autosparse.core.weights import Tensors, keep_count, total_of
from autosparse.models import models
from tests.unit.core.conftest import SHAPE, evidence_of, seeded, small

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
    """The mask of a smaller count is part of the mask of a larger one."""
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


EVIDENCE = evidence_of(small(), SHAPE)


def select(name: str, scores: Tensors, quotas: dict[str, int], seed: int = 0) -> Tensors:
    """Masks by a registered selection."""
    return selections[name].function(scores, quotas, replace(EVIDENCE, generator=seeded(seed)))


def drawn(seed: int = 0) -> Tensors:
    """Random scores of every layer of a small network."""
    generator = seeded(seed)
    return {name: torch.rand(weight.shape, generator=generator) for name, weight in EVIDENCE.weights.items()}


@pytest.mark.parametrize("name", selections.names)
class TestEverySelection:
    """Whatever a selection prefers, it keeps its quotas."""

    def test_count_is_exact(self, name: str) -> None:
        """Every layer keeps exactly its quota, none of it pruned before, and the scores stay as they were."""
        scores = drawn()
        for values in scores.values():
            values[0] = -math.inf
        before = {layer: values.clone() for layer, values in scores.items()}
        alive = {layer: int((values > -math.inf).sum()) for layer, values in scores.items()}

        for share in (0.0, 0.1, 0.5, 0.9, 1.0):
            quotas = {layer: round(share * count) for layer, count in alive.items()}
            masks = select(name, scores, quotas)

            assert quotas == {layer: int(mask.sum()) for layer, mask in masks.items()}
            for layer, mask in masks.items():
                assert torch.bool == mask.dtype
                assert scores[layer].shape == mask.shape
                assert not bool(mask[0].any())
        assert all(torch.equal(values, scores[layer]) for layer, values in before.items())

    def test_generator_decides(self, name: str) -> None:
        """The same generator gives the same masks, and the global one is not touched."""
        scores = drawn()
        quotas = {layer: values.numel() // 3 for layer, values in scores.items()}
        state = torch.get_rng_state()

        first, second = (select(name, scores, quotas, 7) for _ in range(2))

        assert all(torch.equal(first[layer], second[layer]) for layer in scores)
        assert torch.equal(state, torch.get_rng_state())


def test_random_ignores_the_scores() -> None:
    """Random selection depends on the generator and not on the scores."""
    scores = drawn()
    quotas = {layer: values.numel() // 2 for layer, values in scores.items()}

    first = select("shuffle", scores, quotas, 1)
    reversed_ = select("shuffle", {layer: values.flip(0) for layer, values in scores.items()}, quotas, 1)
    other = select("shuffle", scores, quotas, 2)

    assert all(torch.equal(first[layer], reversed_[layer]) for layer in scores)
    assert any(not torch.equal(first[layer], other[layer]) for layer in scores)
    assert any(not torch.equal(first[layer], keep_top(scores[layer], quotas[layer])) for layer in scores)


@given(
    scores=st.lists(st.sampled_from([-math.inf, -1.0, 0.0, 1.0, 2.0, math.inf]), min_size=2, max_size=30),
    share=st.floats(0, 1),
    name=st.sampled_from(["sampled", "balanced"]),
)
def test_any_scores_are_obeyed(scores: list[float], share: float, name: str) -> None:
    """Equal, infinite and missing scores, and a single channel, still give exactly the quota of weights not pruned."""
    network = nn.Sequential(nn.Linear(len(scores), 1))
    values = torch.tensor([scores])
    alive = values > -math.inf
    count = round(share * int(alive.sum()))

    mask = selections[name].function({"0.weight": values}, {"0.weight": count}, evidence_of(network, (len(scores),)))

    assert count == int(mask["0.weight"].sum())
    assert not bool((mask["0.weight"] & ~alive).any())


def test_sampling_follows_the_softmax() -> None:
    """One weight of [0, 1, 3] is drawn with the probabilities of softmax over standard deviations and temperature."""
    scores = {"0.weight": torch.tensor([[0.0, 1.0, 3.0]])}
    evidence = replace(evidence_of(nn.Sequential(nn.Linear(3, 1)), (3,)), generator=seeded(1))
    spread = math.sqrt(14 / 9)  # of 0, 1, 3 about 4 / 3
    powers = [math.exp(score / spread / 0.5) for score in (0, 1, 3)]

    drawn = torch.zeros(3)
    for _ in range(4000):
        drawn += selections["sampled"].function(scores, {"0.weight": 1}, evidence, temperature=0.5)["0.weight"][0]

    assert [power / sum(powers) for power in powers] == pytest.approx((drawn / 4000).tolist(), abs=0.03)


def test_sampling_does_not_depend_on_the_scale_of_scores() -> None:
    """Scores times 2**40 plus a constant draw the same weights, and a low temperature keeps the highest."""
    scores = drawn()
    quotas = {layer: values.numel() // 3 for layer, values in scores.items()}
    scaled = {layer: values.double() * 2**40 + 2**40 for layer, values in scores.items()}

    first, second = select("sampled", scores, quotas), select("sampled", scaled, quotas)
    cold = selections["sampled"].function(scores, quotas, EVIDENCE, temperature=1e-9)

    assert all(torch.equal(first[layer], second[layer]) for layer in scores)
    assert all(torch.equal(keep_top(values, quotas[layer]), cold[layer]) for layer, values in scores.items())


@pytest.mark.parametrize(
    ("layer", "shape", "outputs", "inputs"),
    [
        (nn.Linear(6, 4), (6,), 0, 1),
        (nn.Conv2d(5, 4, 3), (5, 3, 3), 0, 1),
        (nn.ConvTranspose2d(5, 4, 2), (5, 3, 3), 1, 0),
        (nn.Conv2d(6, 6, 3, groups=6), (6, 3, 3), 0, 0),
    ],
)
def test_balanced_spreads_the_quota(layer: nn.Module, shape: tuple[int, ...], outputs: int, inputs: int) -> None:
    """For every quota no output channel, and no input channel, keeps two weights more than another."""
    evidence = evidence_of(nn.Sequential(layer), shape)
    scores = {"0.weight": torch.rand(evidence.weights["0.weight"].shape, generator=seeded(3)) ** 8}
    assert isinstance(layer.weight, torch.Tensor)

    for count in (*range(1, layer.weight.numel(), 7), layer.weight.numel()):
        mask = selections["balanced"].function(scores, {"0.weight": count}, evidence)["0.weight"]

        assert count == int(mask.sum())
        for kept in (along(mask, outputs), along(mask, inputs)):
            assert int(kept.max()) - int(kept.min()) <= 1


def along(mask: Tensor, dimension: int) -> Tensor:
    """Ones for each index of a dimension."""
    return mask.transpose(0, dimension).flatten(1).sum(dim=1)


def test_balanced_by_hand() -> None:
    """Each output keeps its best weight of an input that no other has, where the highest two share an input."""
    scores = {"0.weight": torch.tensor([[9.0, 1.0, 0.0], [8.0, 2.0, 3.0]])}

    mask = selections["balanced"].function(scores, {"0.weight": 2}, evidence_of(nn.Sequential(nn.Linear(3, 2)), (3,)))

    assert [[True, False, False], [False, False, True]] == mask["0.weight"].tolist()


def test_paths_by_hand() -> None:
    """Quotas of 4 in a chain of 3, 3, 3 neurons: three weights join every channel, the fourth makes a hub."""
    network = nn.Sequential(nn.Linear(3, 3, bias=False), nn.ReLU(), nn.Linear(3, 3, bias=False))
    evidence = evidence_of(network, (3,))
    quotas = dict.fromkeys(evidence.weights, 4)

    traced = trace_paths(evidence.masked(selections["paths"].function(evidence.weights, quotas, evidence)))

    assert {"0.weight": 3, "2.weight": 3} == traced.nodes
    # Two inputs meet in one hidden neuron that two outputs read: 2 x 2 paths, and one through each of the others.
    assert math.log(6) == pytest.approx(traced.all)


@pytest.mark.parametrize("sparsity", [0.9, 0.97])
def test_paths_and_nodes_are_never_fewer_than_synflow_leaves(sparsity: float) -> None:
    """More channels than SynFlow's and the paths of as many; all of them where quotas allow; no weight in vain."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = models["resnet8"].function((3, 8, 8), 10)
    evidence = evidence_of(network, (3, 8, 8))
    total = total_of(evidence.weights)
    keep = keep_count(total, sparsity)
    scores = {name: torch.rand(weight.shape, generator=seeded()) for name, weight in evidence.weights.items()}
    quotas = allocations["erk"].function(scores, evidence.layers, keep)

    balanced = trace_paths(evidence.masked(selections["paths"].function(scores, quotas, evidence)))
    parts = (criteria["synflow"].function, allocations["global"].function, selections["top"].function)
    synflow = trace_paths(evidence.masked(exponential(Pruning(evidence, total, keep, *parts), rounds=30)))

    assert sum(balanced.nodes.values()) >= sum(synflow.nodes.values())
    assert balanced.all >= synflow.all
    assert keep == sum(balanced.weights.values())


def test_tuned_is_what_came_with_the_scorer() -> None:
    """The highest scores where no selection came, or no scorer."""
    evidence = evidence_of(small(), SHAPE)
    scores = {name: torch.arange(float(weight.numel())).view(weight.shape) for name, weight in evidence.weights.items()}
    quotas = dict.fromkeys(scores, 2)
    first = {name: (values < 2) for name, values in scores.items()}
    known = Scorer(lambda evidence, images: {})
    chosen = replace(known, select=lambda scores, quotas, evidence: first)
    highest = selections["top"].function(scores, quotas, evidence)

    for scorer, expected in ((None, highest), (known, highest), (chosen, first)):
        result = selections["tuned"].function(scores, quotas, replace(evidence, scorer=scorer))
        assert all(bool((result[name] == mask).all()) for name, mask in expected.items())
