"""Scores of exactly zero are no choice: networks that begin at zero, ties, and networks without any signal."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from autosparse.core.allocation import allocations
from autosparse.core.criteria import criteria
from autosparse.core.evidence import Evidence
from autosparse.core.schedule import Pruning
from autosparse.core.selection import selections
from autosparse.core.weights import Tensors, total_of
from autosparse.core.zero_scores import (
    NoSignal,
    carrying_signal,
    is_by_position,
    silent_layers,
    with_signal,
    without_ties,
)
from tests.unit.core.conftest import evidence_of

SHAPE = (3, 8, 8)
SCORED = [entry.name for entry in criteria if not {"needs_scorer", "needs_rounds", "needs_order"} & set(entry.facts)]


class Branch(nn.Module):
    """A residual branch whose last normalization begins at zero."""

    def __init__(self, scale: str) -> None:
        super().__init__()
        self.scale = scale
        self.first, self.second = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.last = nn.BatchNorm2d(6)
        self.alpha = nn.Parameter(torch.zeros(1) if scale == "alpha" else torch.ones(1))
        if scale == "norm":
            nn.init.zeros_(self.last.weight)
        if scale == "weight":
            nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """The input and what the branch adds."""
        added: Tensor = self.alpha * self.last(self.second(torch.relu(self.first(x))))
        return x + added


def beginning_at_zero(scale: str) -> nn.Module:
    """A network of two such branches; with `head` its last layer begins at zero."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3), Branch(scale), Branch(scale), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)
    )
    if scale == "head":
        nn.init.zeros_(network[-1].weight)  # type: ignore[arg-type]
    return network


@pytest.mark.parametrize("scale", ["norm", "alpha", "weight", "head"])
@pytest.mark.parametrize("criterion", SCORED)
def test_branches_that_begin_at_zero(criterion: str, scale: str) -> None:
    """No criterion leaves a layer of such a network without a score, and masks keep exactly what they should."""
    notes: list[str] = []
    evidence = replace(evidence_of(beginning_at_zero(scale), SHAPE), note=notes.append)
    score = with_signal(criteria[criterion].function)
    total = total_of(evidence.weights)
    pruning = Pruning(evidence, total, total // 5, score, allocations["global"].function, selections["top"].function)

    masks = pruning.in_rounds([total // 2, total // 5])

    assert [] == silent_layers(score(evidence), evidence)
    assert total // 5 == sum(int(mask.sum()) for mask in masks.values())
    assert 4 > sum(not bool(mask.any()) for mask in masks.values())
    assert bool(notes) or criterion in ("random", "magnitude", "prospr", "ntk_sap", "px")


def test_scales_at_one_by_hand() -> None:
    """The network is scored as the same one whose scales begin at one."""
    network = beginning_at_zero("norm")
    ones = beginning_at_zero("norm")
    for name, parameter in ones.named_parameters():
        if name.endswith("last.weight"):
            nn.init.ones_(parameter)
    snip = criteria["snip"].function

    scores = with_signal(snip)(evidence_of(network, SHAPE))

    expected = snip(evidence_of(ones, SHAPE))
    assert all(torch.equal(expected[name], scores[name]) for name in expected)
    assert 0 == network.get_parameter("1.last.weight").count_nonzero()


def test_a_sound_network_is_scored_as_it_is() -> None:
    """If no layer is silent nothing is replaced, even if a scale begins at zero; biases are not scales."""
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 5))
    nn.init.zeros_(network[0].bias)  # type: ignore[arg-type]
    evidence = evidence_of(network, SHAPE)

    assert evidence is carrying_signal(evidence)


def test_a_branch_stays_out_where_training_woke_it() -> None:
    """A branch that training moved from zero is scored as trained."""
    evidence = evidence_of(beginning_at_zero("alpha"), SHAPE)
    trained = replace(evidence, trained={"1.alpha": torch.tensor([0.5]), "2.alpha": torch.tensor([-0.5])})

    assert trained is carrying_signal(trained)
    assert ["1.alpha", "2.alpha"] == [*carrying_signal(evidence).trained]


def two_layers() -> Tensors:
    """Four scores above zero in the first of two layers, all others zero."""
    first = torch.zeros(40)
    first[:4] = torch.tensor([4.0, 3.0, 2.0, 1.0])
    return {"a": first, "b": torch.zeros(60)}


def masks_of(first: list[int], second: list[int]) -> Tensors:
    """Masks that keep weights by number."""
    masks = {"a": torch.zeros(40, dtype=torch.bool), "b": torch.zeros(60, dtype=torch.bool)}
    masks["a"][first] = True
    masks["b"][second] = True
    return masks


def test_what_is_a_choice_by_position() -> None:
    """Some zeros kept and others dropped are no choice; the highest alone, and all zeros, are."""
    scores = two_layers()

    assert is_by_position(masks_of([0, 1, 2, 3, 4], []), scores)
    assert not is_by_position(masks_of([0, 1, 2], []), scores)
    assert not is_by_position(masks_of([*range(40)], [*range(60)]), scores)
    assert not is_by_position(masks_of([], []), scores)
    constant = {name: values + 2.0 for name, values in scores.items()}
    assert is_by_position(masks_of([0, 1, 2, 3, 4], []), constant)


def test_ties_are_drawn_between_their_neighbours() -> None:
    """Zeros are in random order, below every positive value and above every negative one."""
    scores = two_layers()
    scores["b"][7] = -1.0
    result = without_ties(scores, {0.0}, torch.Generator().manual_seed(0))
    zeros = torch.cat([result["a"][4:], result["b"][:7], result["b"][8:]])

    assert [4.0, 3.0, 2.0, 1.0] == result["a"][:4].tolist()
    assert -1.0 == float(result["b"][7])
    assert -1.0 < float(zeros.min()) <= float(zeros.max()) <= 0.0
    assert len(zeros.unique()) == len(zeros)


def test_zeros_of_all_layers_have_the_same_chance() -> None:
    """The zeros that a global threshold keeps come from all layers, not from the first."""

    def score(evidence: Evidence) -> Tensors:
        scores = {name: torch.zeros(weight.shape) for name, weight in evidence.weights.items()}
        scores["0.weight"].view(-1)[0] = 1.0
        return scores

    network = nn.Sequential(nn.Linear(30, 20), nn.Linear(20, 30), nn.Linear(30, 5))
    evidence, notes = evidence_of(network, (30,)), list[str]()
    pruning = Pruning(
        replace(evidence, note=notes.append), 1350, 270, score, allocations["global"].function,
        selections["top"].function,
    )  # fmt: skip

    kept = [int(mask.sum()) for mask in pruning.in_rounds([270]).values()]

    assert 270 == sum(kept)
    assert all(0.1 * size < count < 0.3 * size for count, size in zip(kept, (600, 600, 150), strict=True))
    assert [
        "100% of the scores are exactly zero, and some of those weights are kept: they are drawn at random"
    ] == notes


def test_no_signal_at_all() -> None:
    """A network in which nothing has a gradient is refused with a hint."""

    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.head(x) * 0
            return output

    evidence = evidence_of(Detached(), (4,))
    pruning = Pruning(
        evidence, 12, 6, with_signal(criteria["snip"].function), allocations["global"].function,
        selections["top"].function,
    )  # fmt: skip

    with pytest.raises(NoSignal, match="every weight has score 0") as caught:
        pruning.in_rounds([6])

    assert "initialize the last layer" in caught.value.hint


def test_selections_that_draw_break_ties_themselves() -> None:
    """A selection that takes random numbers is asked once, and no note is made of ties."""
    network = nn.Sequential(nn.Linear(30, 20), nn.Linear(20, 5))
    notes = list[str]()
    for selection in ("shuffle", "sampled"):
        evidence = replace(evidence_of(network, (30,)), note=notes.append)
        chosen = selections[selection].function

        def score(evidence: Evidence) -> Tensors:
            return {name: torch.ones(weight.shape) for name, weight in evidence.weights.items()}

        masks = Pruning(evidence, 700, 140, score, allocations["uniform"].function, chosen).in_rounds([140])

        again = evidence_of(network, (30,))
        quotas = {name: int(mask.sum()) for name, mask in masks.items()}
        expected = chosen(score(again), quotas, again)
        assert all(torch.equal(expected[name], mask) for name, mask in masks.items())
    assert [] == notes
