"""Random walks along weights: the chances of a step, whole walks, and exact counts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autosparse.core.allocation import allocations
from autosparse.core.criteria import criteria
from autosparse.core.evidence import Evidence
from autosparse.core.graph.paths import effective_weights
from autosparse.core.schedule import Pruning, schedules
from autosparse.core.selection import selections
from autosparse.core.walks import _Walks
from autosparse.core.weights import Tensors, total_of
from autosparse.errors import UsageError
from tests.unit.core.conftest import SHAPE, assert_same, evidence_of, small, snapshot


class Residual(nn.Module):
    """A grouped convolution next to an identity."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1, groups=groups, bias=False), nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """The input and the normalized convolution."""
        output: Tensor = self.relu(x + self.norm(self.conv(x)))
        return output


def residual() -> nn.Module:
    """A network with shortcuts, a pool, dropout and a linear layer that reads positions."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), Residual(1), Residual(4), nn.MaxPool2d(2), nn.Dropout(0.1), nn.Flatten(),
        nn.Linear(72, 5),
    )  # fmt: skip


def masks_of(evidence: Evidence, keep: int, criterion: str = "magnitude") -> Tensors:
    """Return the masks of the schedule."""
    score, allocate = criteria[criterion].function, allocations["global"].function
    pruning = Pruning(evidence, total_of(evidence.weights), keep, score, allocate, selections["top"].function)
    masks: Tensors = schedules["walks"].function(pruning)
    return masks


@pytest.mark.parametrize("backward", [False, True])
def test_steps_are_drawn_in_proportion_to_the_score(backward: bool) -> None:
    """Among the weights that leave a unit, or on the way back those that enter it; units in turn."""
    weight = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 0.0]], dtype=torch.float64)
    network = nn.Linear(3, 2, bias=False).double()
    walks = _Walks(evidence_of(network, (3,)), {"weight": weight})
    counts = torch.zeros(6)

    for number in range(60):
        for _, index, _ in walks.run(backward, 64 * number):
            counts += torch.bincount(index, minlength=6)

    expected = weight / weight.sum(dim=1 if backward else 0, keepdim=True) / (2 if backward else 3)
    assert 60 * 64 == counts.sum()
    torch.testing.assert_close(expected.float(), counts.view(2, 3) / counts.sum(), rtol=0.0, atol=0.03)
    assert 0 == counts[5]


@pytest.mark.parametrize("keep", [60, 240])
@pytest.mark.parametrize("network", [small, residual])
def test_kept_weights_lie_on_whole_walks(network: type[nn.Module], keep: int) -> None:
    """Exactly as many as asked for, of which only the last walk may end early; the network keeps its state."""
    module = network()
    evidence, before = evidence_of(module, SHAPE), snapshot(module)

    masks = masks_of(evidence, keep)

    effective = effective_weights(evidence.masked(masks))
    assert keep == total_of({name: mask[mask] for name, mask in masks.items()})
    assert keep - 4 <= sum(int(part.sum()) for part in effective.values())
    assert_same(before, snapshot(module))
    assert_same(masks, masks_of(evidence_of(network(), SHAPE), keep))


def test_all_but_a_few_weights() -> None:
    """Weights that no walk visits fill the count by their scores."""
    evidence = evidence_of(small(), SHAPE)
    total = total_of(evidence.weights)

    assert total - 1 == sum(int(mask.sum()) for mask in masks_of(evidence, total - 1).values())


def test_a_layer_that_no_walk_visits_is_an_error() -> None:
    """The projections of attention are no layers that a walk follows."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.inner(x, x, x, need_weights=False)[0]
            return output.mean(dim=1)

    with pytest.raises(UsageError, match="no walk visits"):
        masks_of(evidence_of(Attention(), (3, 4)), 20)
