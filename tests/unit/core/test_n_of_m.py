"""N of M sparsity: the highest N of every M consecutive inputs, in every schedule, selection, check and spec."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from autosparse import prune
from autosparse.core.allocation import uniform
from autosparse.core.criteria import criteria
from autosparse.core.evidence import Scorer
from autosparse.core.sanity import invert
from autosparse.core.schedule import Pruning, one_shot
from autosparse.core.selection import balanced, selections, top, tuned
from autosparse.core.units.cost import in_weights
from autosparse.core.units.n_of_m import Blocks
from autosparse.core.weights import Layer, Tensors
from autosparse.errors import AutosparseError, AutosparseWarning, UsageError
from autosparse.spec import Method, Spec
from autosparse.spec.resolve import filled
from tests.unit.core.conftest import evidence_of, seeded

BATCH = torch.randn(8, 4, 6, 6, generator=seeded(1)), torch.arange(8) % 3
CRITERIA = [entry.name for entry in criteria if not {"needs_rounds", "needs_order"} & set(entry.facts)]


def network() -> nn.Sequential:
    """Convolutions, one of two groups and one transposed, and linear layers; inputs are multiples of 4."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(4, 8, 3), nn.Tanh(), nn.Conv2d(8, 8, 2, groups=2), nn.Tanh(), nn.ConvTranspose2d(8, 4, 2),
            nn.Tanh(), nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 3),
        )  # fmt: skip


def blocks(masks: Mapping[str, Tensor], m: int = 4) -> Tensor:
    """The blocks of masks of `network`, `[blocks, m]`: along inputs, which are dimension 0 of the transposed layer."""
    parts = [
        (mask if name != "4.weight" else mask.transpose(0, 1)).movedim(1, -1).reshape(-1, m)
        for name, mask in masks.items()
    ]
    return torch.cat(parts)


def made(method: str | Mapping[str, Any], unit: str | Mapping[str, Any] = "2:4", **others: Any) -> Tensors:
    """Masks of `network`."""
    return {**prune(network(), [BATCH], method=method, unit=unit, **others)}


def layer(*shape: int, groups: int = 1, transposed: bool = False) -> Layer:
    """A layer named `w`."""
    return Layer("w", shape, 1, 1, shape[2:], 1, 1, groups, transposed)


def test_blocks_by_hand() -> None:
    """The two highest of four stay; ties keep the first; a pruned weight never stays."""
    scores = torch.tensor([[0.1, 0.9, 0.5, 0.3, 1.0, 1.0, 1.0, 1.0], [-5.0, -3.0, -math.inf, -4.0, 0.0, 0.0, 7.0, 0.0]])

    masks = top(Blocks([layer(2, 8)], 2, 4).relative({"w": scores}), {"w": 8}, evidence_of(network(), (4, 6, 6)))

    assert masks["w"].int().tolist() == [[0, 1, 1, 0, 1, 1, 0, 0], [0, 1, 0, 1, 1, 0, 1, 0]]


def test_blocks_run_along_inputs() -> None:
    """A kernel's positions are apart, and so are groups; a transposed layer has its inputs first."""
    scores = torch.zeros(1, 2, 1, 2)
    scores[0, 0, 0, 0] = scores[0, 1, 0, 1] = 1.0
    kernel = Blocks([layer(1, 2, 1, 2)], 1, 2).relative({"w": scores})["w"]
    transposed = Blocks([layer(4, 1, groups=2, transposed=True)], 1, 2)
    column = transposed.relative({"w": torch.tensor([[1.0], [2.0], [4.0], [3.0]])})["w"]

    assert (kernel >= 0).tolist() == (scores > 0).tolist()
    assert (column >= 0).flatten().tolist() == [False, True, True, False]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.booleans(), st.integers(2, 9),
    st.data(),
)  # fmt: skip
def test_every_block_keeps_n(groups: int, out: int, times: int, side: int, transposed: bool, m: int, data: Any) -> None:
    """Of any shape, N and M, and scores with ties and of any size, exactly N of a block stay, none below a pruned."""
    n = data.draw(st.integers(1, m - 1))
    shape = (groups * m * times, out, side) if transposed else (groups * out, m * times, side)
    drawn = torch.randint(-3, 4, shape, generator=seeded(data.draw(st.integers(0, 99)))).float() * 1e38
    unit = Blocks([layer(*shape, groups=groups, transposed=transposed)], n, m)
    values = unit.relative({"w": drawn})["w"]
    parts = unit.layers[0].spread(values >= 0).movedim(2, 3).reshape(-1, m)
    scores = unit.layers[0].spread(drawn).movedim(2, 3).reshape(-1, m)

    assert unit.least["w"] == int((values >= 0).count_nonzero())
    assert set(parts.sum(dim=1).tolist()) == {n}
    assert bool((scores.where(parts, torch.inf).amin(1) >= scores.where(~parts, -torch.inf).amax(1)).all())
    assert bool(values.isfinite().all())


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion(criterion: str) -> None:
    """Every criterion leaves exactly N of M, with its highest scores in every block."""
    assert set(blocks(made({"criterion": criterion})).sum(dim=1).tolist()) == {2}


@pytest.mark.parametrize(("unit", "n", "m"), [("1:4", 1, 4), ({"n": 3, "m": 4}, 3, 4), ("1:2", 1, 2)])
def test_any_pattern(unit: Any, n: int, m: int) -> None:
    """Any N of M, as text or as a mapping."""
    assert set(blocks(made("magnitude", unit), m).sum(dim=1).tolist()) == {n}


SCHEDULES: dict[str, Any] = {
    "exponential": {"name": "exponential", "rounds": 3},
    "regrow": {"name": "linear", "rounds": 3, "regrow": True},
    "search": {"name": "search", "steps": 3},
    "concrete": {"name": "search", "steps": 3, "relaxation": "concrete", "quotas": "free"},
}


@pytest.mark.filterwarnings("ignore:.*drawn at random")
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=list(SCHEDULES))
@pytest.mark.parametrize("selection", ["top", "shuffle", "sampled"])
def test_every_schedule(schedule: Any, selection: str) -> None:
    """Rounds and searches end in N of M, whatever their selection."""
    masks = made({"criterion": "snip", "schedule": schedule, "selection": selection})

    assert set(blocks(masks).sum(dim=1).tolist()) == {2}


def test_selections_draw_in_blocks() -> None:
    """A random selection fills every block at random; cold samples are the highest."""
    best = made("magnitude")
    other = made({"criterion": "magnitude", "selection": "shuffle"})
    cold = made({"criterion": "magnitude", "selection": {"name": "sampled", "temperature": 1e-6}})

    assert set(blocks(other).sum(dim=1).tolist()) == {2}
    assert 0.3 < (blocks(best) & blocks(other)).sum() / blocks(best).sum() < 0.7
    assert torch.equal(blocks(best), blocks(cold))


def test_search_anneals_within_blocks() -> None:
    """Masks of a search hold those of N of M at every step, and reach them."""
    scores = torch.randn(6, 8, generator=seeded())
    values = Blocks([layer(6, 8)], 2, 4).relative({"w": scores})["w"]
    pattern = values >= 0
    early = values >= values.flatten().topk(36).values.min()

    assert int(early.sum()) == 36
    assert bool((early | ~pattern).all())


@pytest.mark.parametrize("select", [balanced, top])
def test_scorers_selection(select: Any) -> None:
    """A scorer's selection that ranks no weights is replaced by the highest scores."""
    evidence = evidence_of(network(), (4, 6, 6))
    scorer = Scorer(lambda evidence, images: {}, select)
    scores = {name: weight.abs() for name, weight in evidence.weights.items()}
    unit = Blocks(evidence.layers, 2, 4)
    masks = unit.filled(tuned)(scores, unit.least, replace(evidence, scorer=scorer))

    assert torch.equal(blocks(masks), blocks(made("magnitude")))


def test_inverted_check_keeps_the_lowest_of_each_block() -> None:
    """The check `invert` keeps the other two of four."""
    evidence = evidence_of(network(), (4, 6, 6))
    unit = Blocks(evidence.layers, 2, 4)
    scores = {name: weight.abs() for name, weight in evidence.weights.items()}
    total = sum(weight.numel() for weight in scores.values())
    pruning = Pruning(
        evidence, total, unit.amount(total // 2, in_weights(evidence.layers)), score=lambda evidence: scores,
        allocate=unit.limited(uniform, in_weights(evidence.layers)), select=unit.filled(top), unit=unit,
    )  # fmt: skip

    assert torch.equal(blocks(invert(one_shot, pruning)), ~blocks(one_shot(pruning)))


def test_layers_stay_whole() -> None:
    """Layers whose inputs are no multiple of M stay whole, with their number and share; of all such nothing is left."""
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 4))
    with pytest.warns(AutosparseWarning, match=r"1 layer stays whole under 2:4, with 60\.00% .* is 0\.2000"):
        masks = prune(model, None, 0.5, method="magnitude", unit="2:4")

    assert [int(mask.sum()) for mask in masks.values()] == [48, 16]
    with pytest.raises(AutosparseError, match="unit `n_of_m`: no layer has a multiple of 7 inputs"):
        prune(model, method="magnitude", unit="3:7")


def test_multiply_adds_are_a_limit() -> None:
    """A budget of multiply-adds that the pattern keeps within is accepted, a lower one refused with the numbers."""
    assert set(blocks(made("magnitude", macs=0.6)).sum(dim=1).tolist()) == {2}
    with pytest.raises(
        AutosparseError, match=r"unit `n_of_m`: 2:4 keeps \d+ of \d+ multiply-adds, 50.00%, more than \d+"
    ):
        made("magnitude", macs=0.4)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"unit": {"n": 4, "m": 4}}, "must be below `m` but is 4 of 4"),
        ({"unit": "0:4"}, "greater than or equal to 1"),
        ({"unit": 124}, "must be the name of a unit, or a pattern such as `2:4`, but is 124"),
        ({"allocation": "erk"}, "has the quotas of `erk`, but unit `2:4` gives every layer its number of weights"),
        ({"selection": "balanced"}, "`balanced` chooses in whole layers, but unit `2:4` in blocks"),
        ({"selection": "paths"}, "`paths` chooses in whole layers, but unit `2:4` in blocks"),
        ({"repair": "reconnect"}, "`reconnect` moves single weights, which breaks the blocks of unit `2:4`"),
    ],
)
def test_specs_refuse(method: dict[str, Any], message: str) -> None:
    """Choices without a meaning in blocks are refused, with the reason."""
    with pytest.raises(ValidationError, match=message):
        Method.model_validate({"criterion": "snip", "unit": "2:4", **method})


@pytest.mark.parametrize("unit", ["2:4", " 2 : 4", {"n": 2, "m": 4}, {"name": "n_of_m", "n": 2, "m": 4}])
def test_ways_to_write_a_pattern(unit: Any) -> None:
    """All ways are one unit and one name of a method; a number from base 60 gets the quotes as a hint."""
    method = Method.model_validate({"preset": "snip", "unit": unit})

    assert (method.unit.name, method.unit.options()) == ("n_of_m", {"n": 2, "m": 4})
    assert method.name == "snip+2of4"
    assert method.given_sparsity == 0.5
    with pytest.raises(UsageError) as caught:
        prune(network(), method="magnitude", unit=124)  # type: ignore[arg-type]
    assert caught.value.hint
    assert 'did you mean "2:4"?' in caught.value.hint


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"budget": (0.9,)}, "is 0.9, but unit `2:4` removes 0.5"),
        ({}, "gives a sparsity of 0.5, but `budget` is 0.9 by default"),
        ({"budget": (0.5, 0.95)}, "is 0.95, but unit `2:4` removes 0.5"),
        ({"budget": (0.5,)}, ""),
        ({"budget": ({"macs": "60%"},)}, ""),
    ],
)
def test_budget_of_a_spec(budget: dict[str, Any], message: str) -> None:
    """The unit gives the sparsity: another one is refused before anything runs; an upper limit is left to the masks."""
    spec = {"model": "lenet", "dataset": "digits", "method": {"preset": "snip", "unit": "2:4"}, **budget}
    if not message:
        assert Spec.model_validate(spec).ablations == ("shuffle",)
        return
    with pytest.raises(ValidationError, match=message):
        Spec.model_validate(spec)


def test_prune_gives_the_sparsity() -> None:
    """`prune` needs no sparsity with a pattern, and refuses another one with the right value."""
    assert torch.equal(blocks(made("magnitude")), blocks(made("magnitude", sparsity=0.5)))
    with pytest.raises(UsageError, match=r"`sparsity` is 0\.9, but unit `2:4` removes 0\.5") as caught:
        made("magnitude", sparsity=0.9)
    assert caught.value.hint == "leave it out, or give 0.5"
    with pytest.raises(UsageError, match="needs a sparsity"):
        prune(network(), [BATCH], method="magnitude")


def test_a_tuned_selection_that_fills_no_block() -> None:
    """The selection of a pretrained scorer is replaced by the highest scores where it fills no blocks."""
    method = Method.model_validate({"preset": "learned", "unit": "2:4"})

    assert filled(method, {"name": "balanced"}).selection.name == "top"
    assert filled(method, {"name": "sampled"}).selection.name == "sampled"
    assert {entry.name for entry in selections if "ranks" in entry.facts} == {"top", "shuffle", "sampled"}
