"""Scores and masks of the authors' own code, made once on the weights and images of a fixture, and ours on the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from autosparse.core.allocation import allocations
from autosparse.core.criteria import criteria
from autosparse.core.evidence import Batch, Evidence
from autosparse.core.presets import PRESETS
from autosparse.core.schedule import Pruning
from autosparse.core.selection import selections
from autosparse.core.weights import Tensors, total_of
from tests.unit.core.conftest import evidence_of

FIXTURES = Path(__file__).parents[2] / "fixtures"
STORED = load_file(FIXTURES / "agreement.safetensors")
ABOUT: dict[str, Any] = json.loads((FIXTURES / "agreement.json").read_text(encoding="utf-8"))


class Compared(nn.Module):
    """Two convolutions, a shortcut, BatchNorm after each and a linear head: what every author's code can prune."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False)
        self.conv_norm = nn.BatchNorm2d(12)
        self.shortcut = nn.Conv2d(8, 12, 1, stride=2, bias=False)
        self.shortcut_norm = nn.BatchNorm2d(12)
        self.head = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch."""
        x = torch.relu(self.stem_norm(self.stem(x)))
        x = torch.relu(self.conv_norm(self.conv(x)) + self.shortcut_norm(self.shortcut(x)))
        output: Tensor = self.head(x.mean(dim=(2, 3)))
        return output


def evidence(batches: Sequence[Sequence[int]]) -> Evidence:
    """The fixture's network in float64, and batches given as slices of its images."""
    network = Compared().double()
    network.load_state_dict({name[6:]: part for name, part in STORED.items() if name.startswith("state.")})
    images = [(STORED["inputs"][start:end].double(), STORED["labels"][start:end]) for start, end in batches]
    return evidence_of(network, (3, 8, 8), batches=images)


def one_after_the_other(evidence: Evidence) -> Evidence:
    """The evidence whose every draw is the next batch."""
    left: list[Batch] = [*evidence.draw(1)]
    return replace(evidence, draw=lambda images: [left.pop(0)])


def stored(kind: str) -> Tensors:
    """Return the scores of the authors' code, layer by layer."""
    return {name.removeprefix(f"{kind}."): part for name, part in STORED.items() if name.startswith(f"{kind}.")}


def assert_scores_agree(kind: str, ours: Tensors) -> None:
    """Equal up to one factor for all layers, in the float32 of the fixture."""
    theirs = stored(kind)
    flat = [torch.cat([part[name].flatten().double() for name in ours]) for part in (theirs, ours)]
    expected, actual = (part / part.abs().sum() for part in flat)

    assert set(theirs) == set(ours)
    torch.testing.assert_close(expected, actual, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("name", "batches"), [("snip", [(0, 16)]), ("grasp", [(0, 16)]), ("synflow", [(0, 16)])])
def test_scores_are_the_authors(name: str, batches: list[tuple[int, int]]) -> None:
    """SNIP, GraSP on the two halves of a batch that its authors take, and SynFlow."""
    assert_scores_agree(name, criteria[name].function(evidence(batches)))


def test_prospr_is_the_authors() -> None:
    """ProsPr through three steps of 0.1, each on another batch, as unrolled by its authors."""
    result = one_after_the_other(evidence([(0, 16), (16, 32), (32, 48), (48, 64)]))

    assert_scores_agree("prospr", criteria["prospr"].function(result, steps=3, lr=0.1))


@pytest.mark.parametrize("name", ["iterative_snip", "force", "synflow_rounds"])
def test_masks_of_many_rounds_are_the_authors(name: str) -> None:
    """Iterative SNIP and FORCE after 20 rounds, SynFlow after 100, with the authors' numbers of weights in each.

    They round these numbers down, we to the nearest; one weight more or less in the first round leads to other masks in
    the last, in their code as in ours.
    """
    method = PRESETS[name.removesuffix("_rounds")][1]
    criterion = method["criterion"] if isinstance(method["criterion"], str) else method["criterion"]["name"]
    start = evidence([(0, 16)])
    counts = ABOUT["counts"][name]
    pruning = Pruning(
        start,
        total_of(start.weights),
        counts[-1],
        score=criteria[criterion].function,
        allocate=allocations[method["allocation"]].function,
        select=selections[method["selection"]].function,
    )

    masks = pruning.in_rounds(counts, regrow=method["schedule"].get("regrow", False))

    theirs = stored(name)
    both = sum(int((masks[layer] & theirs[layer]).sum()) for layer in theirs)
    assert counts[-1] == sum(int(mask.sum()) for mask in theirs.values())
    assert both > 0.99 * counts[-1]
