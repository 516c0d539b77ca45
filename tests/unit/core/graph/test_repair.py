"""Repair: what masks cut is reconnected with as few weights as can be, as many leaving."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from autosparse.core.evidence import Evidence
from autosparse.core.graph.connectivity import examine
from autosparse.core.graph.repair import repairs
from autosparse.core.weights import Tensors
from autosparse.models import models
from tests.unit.core.conftest import SHAPE, all_ones, assert_same, evidence_of, random_masks, small


def repaired(evidence: Evidence, masks: Tensors, name: str = "reconnect", scores: Tensors | None = None) -> Tensors:
    """Masks after a repair, scored by magnitude unless scores are given."""
    costs = dict.fromkeys(masks, 1)
    magnitudes = {layer: weight.abs() for layer, weight in evidence.weights.items()}
    return repairs[name].function(evidence, masks, lambda _: scores or magnitudes, costs)


def count(masks: Tensors) -> int:
    """Ones in all."""
    return sum(int(mask.sum()) for mask in masks.values())


@pytest.mark.parametrize("name", repairs.names)
def test_sound_masks_stay(name: str) -> None:
    """If nothing is disconnected nothing moves, and arguments are not modified."""
    evidence, masks = evidence_of(small(), SHAPE), random_masks(small(), share=0.8)
    before = {layer: mask.clone() for layer, mask in masks.items()}

    assert_same(before, repaired(evidence, masks, name))
    assert_same(before, masks)


def test_one_weight_closes_a_gap_by_hand() -> None:
    """The best of the weights that join existing ones is added; the idle weight with the lowest score goes."""
    network = nn.Sequential(nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 1, bias=False))
    masks = {
        "0.weight": torch.tensor([[1, 1], [0, 0], [0, 0]], dtype=torch.bool),
        "2.weight": torch.tensor([[0, 1, 1]], dtype=torch.bool),
    }
    scores = {"0.weight": torch.tensor([[9.0, 9], [1, 2], [3, 4]]), "2.weight": torch.tensor([[5.0, 7, 8]])}

    mended = repaired(evidence_of(network, (2,)), masks, scores=scores)

    # 2.weight[0, 0] (score 5) beats the four of the first layer (at most 4); then 2.weight[0, 1] (score 7) is idle.
    assert [[True, True], [False, False], [False, False]] == mended["0.weight"].tolist()
    assert [[True, False, True]] == mended["2.weight"].tolist()


def test_two_gaps_on_one_path_take_two_weights() -> None:
    """Layers emptied one behind the other are joined by one path, not by two."""
    network = nn.Sequential(*[nn.Linear(5, 5, bias=False) for _ in range(4)])
    masks = all_ones(network)
    masks["1.weight"][:], masks["2.weight"][:] = False, False

    mended = repaired(evidence_of(network, (5,)), masks)

    assert [1, 1] == [int(mended[name].sum()) for name in ("1.weight", "2.weight")]
    assert 2 == sum(int((mended[name] & ~masks[name]).sum()) for name in masks)
    assert count(masks) == count(mended)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000), share=st.floats(0.1, 0.5))
def test_any_masks_are_reconnected_exactly(seed: int, share: float) -> None:
    """Whatever was cut, nothing is afterwards, and as many weights stay."""
    network = small(seed)
    masks = random_masks(network, share=share, seed=seed)
    evidence = evidence_of(network, SHAPE)

    mended = repaired(evidence, masks)

    assert () == examine(evidence.masked(mended))
    assert count(masks) == count(mended)


@pytest.mark.parametrize(("name", "sparsity"), [("resnet18", 0.95), ("resnet8", 0.97), ("vgg11", 0.95)])
def test_magnitude_is_reconnected(name: str, sparsity: float) -> None:
    """Networks that magnitude cuts, everything or the branches, lose nothing by fewer moves than layers and outputs."""
    shape = (3, 32, 32) if name == "vgg11" else (3, 8, 8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = models[name].function(shape, 10, width=16)
    evidence = evidence_of(network, shape)
    magnitudes = {layer: weight.abs() for layer, weight in evidence.weights.items()}
    flat = torch.cat([values.flatten() for values in magnitudes.values()])
    threshold = flat.topk(round((1 - sparsity) * len(flat))).values.min()
    masks = {layer: values >= threshold for layer, values in magnitudes.items()}
    assert examine(evidence.masked(masks))

    mended = repaired(evidence, masks)

    assert () == examine(evidence.masked(mended))
    assert count(masks) == count(mended)
    assert 0 < sum(int((mended[layer] & ~mask).sum()) for layer, mask in masks.items()) <= len(masks) + 10


def test_paths_are_laid_anew_where_no_weight_can_leave() -> None:
    """Two chains side by side, each of which needs its last weight: only one chain that forks has as few weights."""
    network = nn.Sequential(*[nn.Linear(2, 2, bias=False) for _ in range(3)])
    masks = all_ones(network)
    masks["0.weight"][:], masks["1.weight"][:] = torch.eye(2).bool(), torch.eye(2).bool()
    masks["2.weight"][:] = False
    scores = {name: torch.tensor([[2.0, 0.0], [0.0, 1.0]]) for name in masks}

    mended = repaired(evidence_of(network, (2,)), masks, scores=scores)

    assert [[[True, False], [False, False]]] * 2 == [mended[name].tolist() for name in ("0.weight", "1.weight")]
    assert [[True, False], [True, False]] == mended["2.weight"].tolist()

    masks["1.weight"][:] = False

    with pytest.raises(ValueError, match="too few weights stay"):
        repaired(evidence_of(network, (2,)), masks, scores=scores)


class Strided(nn.Module):
    """Residual blocks on maps so small that most of a kernel sees padding alone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one = (nn.Conv2d(inputs, 4, 3, 2, 1, bias=False) for inputs in (2, 4))
        self.two, self.shortcut = nn.Conv2d(4, 4, 3, 1, 1, bias=False), nn.Conv2d(4, 4, 1, 2, bias=False)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        output: Tensor = self.head((self.two(self.one(x).relu()) + self.shortcut(x)).relu().mean(dim=(2, 3)))
        return output


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000), extra=st.integers(0, 12))
def test_any_budget_that_can_be_enough_is(seed: int, extra: int) -> None:
    """A weight for each convolution and output is enough, wherever the weights are that are given."""
    network = Strided()
    generator = torch.Generator().manual_seed(seed)
    sizes = {name: mask.numel() for name, mask in all_ones(network).items()}
    chosen = torch.zeros(sum(sizes.values()), dtype=torch.bool)
    chosen[torch.randperm(len(chosen), generator=generator)[: 7 + extra]] = True
    parts = chosen.split([*sizes.values()])
    masks = {name: part.view_as(full) for (name, full), part in zip(all_ones(network).items(), parts, strict=True)}
    evidence = evidence_of(network, (2, 4, 4))

    mended = repaired(evidence, masks)

    assert () == examine(evidence.masked(mended))
    assert count(masks) == count(mended)


def test_too_small_a_budget_is_refused() -> None:
    """Fewer weights than a path needs cannot be reconnected, which is said."""
    network = nn.Sequential(*[nn.Linear(3, 3, bias=False) for _ in range(4)])
    masks = {name: torch.zeros_like(mask) for name, mask in all_ones(network).items()}
    masks["0.weight"][0, 0] = True

    with pytest.raises(ValueError, match="too few weights stay"):
        repaired(evidence_of(network, (3,)), masks)
