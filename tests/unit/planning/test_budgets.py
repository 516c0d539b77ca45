"""Budgets of a plan: translated by hand, refused with the possible range, and their keys."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from autosparse.backends import Machine
from autosparse.errors import InvalidValue, UsageError
from autosparse.models.facts import LayerFacts, NetworkFacts
from autosparse.planning.budgets import (
    Between,
    Translation,
    check_budget,
    check_macs,
    compact_bytes,
    limits,
    sparsity_for,
    translate,
    translations,
    whole_amount,
)
from autosparse.planning.compile import compile_plan
from autosparse.planning.model import Plan
from autosparse.spec import Amount, load_spec, resolve
from autosparse.spec.budget import Budget

MACHINE = Machine("a processor", cores=1, cpu_bfloat16=True, devices=("cpu",), cuda_bfloat16=False)
# 100 weights used ten times each and 60 used once; 14 other parameters and 6 buffers: 1,060 multiply-adds.
FACTS = NetworkFacts("", (LayerFacts("a", 100, 10), LayerFacts("b", 60, 1)), 174, 6, 0, 0)
BASE = (
    "model: {name: mlp, widths: [5]}\ndataset: digits\nmethod: snip\ncompare: [random]\ncontrols: []\n"
    "training: {precision: float32}\n"
)
# digits are 64 pixels and ten classes: 64 x 5 + 5 x 10 = 370 prunable weights, each used once, and 15 biases.


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(tmp_path / "cache"))


def plan(*budget: str, text: str = BASE) -> Plan:
    """The plan of a small spec with these budgets."""
    Path("spec.yaml").write_text(text)
    return compile_plan(resolve(load_spec(Path("spec.yaml"), budget=budget).spec, MACHINE), "spec")


def keys(plan: Plan) -> set[str]:
    """All keys of a plan."""
    return {step.key for step in plan.steps.values()}


def test_a_sparsity_in_every_currency() -> None:
    """16 of 160 weights stay: one each and 14 in the cheap or in the dear layer, or 10 and 6."""
    macs = Between(1 * 10 + 15, 15 * 10 + 1, 10 * 10 + 6)

    expected = Translation("0.9", 0.9, 16, 16 + 14, macs, 160 // 8 + 4 * 16 + 4 * (14 + 6))
    assert expected == translate(0.9, FACTS)


def test_parameters_in_every_currency() -> None:
    """30 parameters are the 14 that cannot be pruned and 16 weights: sparsity 0.9."""
    printed = translate(Amount("parameters", 30), FACTS)

    assert ("30 parameters", 0.9, 16, 30) == (printed.budget, printed.sparsity, printed.kept, printed.parameters)


@pytest.mark.parametrize(
    ("bytes_", "kept"),
    [
        (80 + 8 * 2, 2),
        (80 + 8 * 5, 5),  # places are smaller than a bitmap of 20 bytes up to five weights
        (80 + 20 + 4 * 16, 16),
        (80 + 20 + 4 * 17 - 1, 16),
        (80 + 20 + 4 * 100, 100),
    ],
)
def test_bytes_in_every_currency(bytes_: int, kept: int) -> None:
    """20 other numbers of 4 bytes, then weights with their places (8 bytes) or a bitmap (20, and 4 each)."""
    printed = translate(Amount("bytes", bytes_), FACTS)

    assert kept == printed.kept
    assert compact_bytes(kept, FACTS) == printed.bytes
    assert compact_bytes(kept, FACTS) <= bytes_ < compact_bytes(kept + 1, FACTS)


def test_multiply_adds_in_every_currency() -> None:
    """106 buy 10 weights of `a` and 6 of `b` alike; at least 10 and 1 (11 cost 111), at most 4 and 60 (100)."""
    printed = translate(Amount("macs", 106), FACTS)

    assert Between(11, 64, 16) == printed.kept
    assert Between(0.6, 0.93, 0.9) == printed.sparsity
    assert Between(25, 78, 30) == printed.parameters
    assert 106 == printed.macs
    assert Between(80 + 20 + 44, 80 + 20 + 256, 80 + 20 + 64) == printed.bytes


def test_the_ends_of_multiply_adds() -> None:
    """The least leaves one weight a layer whatever is done; all of them prune nothing."""
    assert Between(2, 2, 2) == translate(Amount("macs", 11), FACTS).kept
    assert Between(0.0, 0.0, 0.0) == translate(Amount("macs", 1060), FACTS).sparsity


@pytest.mark.parametrize(
    ("budget", "message", "hint"),
    [
        (0.99, "sparsity 0.99 leaves 2 of 160", None),
        (0.991, "sparsity 0.991 leaves 1 of 160 weights for the 2 layers of net", "the maximum, .* is 0.987500"),
        (Amount("parameters", 16), "", None),
        (Amount("parameters", 15), "{parameters: 15} leaves 1 of 160 weights for the 2 layers of net", "is 16$"),
        (
            Amount("parameters", 13),
            "{parameters: 13} is less than the 14 parameters that net has in addition",
            "is 16$",
        ),
        (Amount("parameters", 174), "", None),
        (Amount("parameters", 175), "{parameters: 175} exceeds the 174 parameters of the dense net", "give less"),
        (Amount("bytes", 96), "", None),
        (Amount("bytes", 95), "{bytes: 95} leaves 1 of 160 weights", "is 96$"),
        (Amount("bytes", 79), "{bytes: 79} is less than the 80 bytes that net has in addition", "is 96$"),
        (Amount("bytes", 721), "{bytes: 721} exceeds the 720 bytes of the dense net", "give less"),
    ],
    ids=str,
)
def test_the_impossible_is_refused_with_what_is_possible(
    budget: float | Amount, message: str, hint: str | None
) -> None:
    """Fewer weights than layers, or more than there is; the number in the hint is the first that is possible."""
    if hint is None:
        sparsity_for(budget, FACTS, "net")
        return
    with pytest.raises(UsageError, match=message) as raised:
        sparsity_for(budget, FACTS, "net")

    assert re.search(hint, raised.value.hint or "")


def test_impossible_multiply_adds() -> None:
    """One weight in each layer takes 11, all of them 1,060."""
    check_macs(Amount("macs", 11), FACTS, "net")
    check_macs(Amount("macs", 1060), FACTS, "net")
    with pytest.raises(UsageError, match="less than net takes with one weight in each of its 2 layers") as less:
        check_macs(Amount("macs", 10), FACTS, "net")
    with pytest.raises(UsageError, match="exceeds the 1,060 macs of the dense net"):
        check_macs(Amount("macs", 1061), FACTS, "net")

    assert "did you mean {macs: 10%}? the minimum, one weight in each layer, is 11" == less.value.hint


RELATIVE: TypeAdapter[Any] = TypeAdapter(Budget)


@pytest.mark.parametrize(
    ("budget", "limit"),
    [
        ({"macs": "10%"}, 106),
        ({"macs": "10x"}, 106),
        ({"macs": "3x"}, 353),  # 1060 / 3 = 353.33: never more than the share
        ({"macs": "100%"}, 1060),
        ({"parameters": "25%"}, 43),
        ({"bytes": "1x"}, 720),
    ],
    ids=str,
)
def test_a_relative_amount_is_a_whole_number_within_its_share(budget: Any, limit: int) -> None:
    """Of the 1,060 multiply-adds, 174 parameters or 720 bytes of the dense network, rounded down."""
    relative = RELATIVE.validate_python(budget)
    printed = translate(relative, FACTS)

    assert (str(relative), limit) == (printed.budget, printed.limit)
    assert replace(translate(whole_amount(relative, FACTS), FACTS), budget="") == replace(printed, budget="")


@given(st.sampled_from(["parameters", "macs", "bytes"]), st.decimals("0.0001", 100, places=4), st.integers(1, 10**12))
def test_a_resolved_amount_never_exceeds_its_share(currency: str, percent: Decimal, dense: int) -> None:
    """And one more does."""
    relative = RELATIVE.validate_python({currency: f"{percent}%"})

    amount = relative.of(dense).amount
    assert amount <= Fraction(percent) / 100 * dense < amount + 1


@pytest.mark.parametrize(
    ("budget", "message", "hint"),
    [
        ({"macs": "1%"}, "{macs: 1%}, 10 macs, is less than net takes", "is 11, or 1.04%"),
        ({"macs": "200x"}, "{macs: 200x}, 5 macs, is less than net takes", "is 11, or 1.04%"),
        ({"parameters": "9%"}, "{parameters: 9%}, 15 parameters, leaves 1 of 160", "is 16, or 9.20%"),
        ({"bytes": "1%"}, "{bytes: 1%}, 7 bytes, is less than the 80 bytes", "is 96, or 13.4%"),
    ],
    ids=str,
)
def test_an_impossible_share_is_refused_with_a_possible_one(budget: Any, message: str, hint: str) -> None:
    """The percentage of the hint is rounded up: it is a possible budget."""
    relative = RELATIVE.validate_python(budget)
    check = check_macs if relative.currency == "macs" else sparsity_for
    with pytest.raises(UsageError) as raised:
        check(relative, FACTS, "net")

    assert message in raised.value.message
    assert hint in (raised.value.hint or "")
    check(RELATIVE.validate_python({relative.currency: hint.split()[-1]}), FACTS, "net")


def test_a_share_has_the_keys_of_the_number_that_it_is() -> None:
    """37 of 370 multiply-adds, 52 of 385 parameters, 255 of 1540 bytes: one network by three notations each."""
    assert keys(plan("macs=37")) == keys(plan("macs=10%")) == keys(plan("macs=10x")) == keys(plan("macs=10.1%"))
    assert keys(plan("0.9")) == keys(plan("parameters=13.6%")) == keys(plan("bytes=16.6%"))
    assert {"macs": 37} == plan("macs=10%").steps["mask/snip/10-percent-macs/seed0"].options["budget"]


def test_a_relative_budget_goes_by_its_notation() -> None:
    """Columns show it as written; names of steps and folders have no `%` and no space."""
    planned = plan("macs=30.50 %", "bytes=4X", "0.9")

    assert ["30.5% macs", "4x bytes", "0.9"] == [cell.budget for cell in planned.cells if cell.method == "snip"]
    assert {"mask/snip/30.5-percent-macs/seed0", "mask/snip/4x-bytes/seed0"} <= planned.steps.keys()
    assert not any(character in name for name in planned.steps for character in "% ")
    assert {"30.5% macs": 112, "4x bytes": 385} == limits(planned)


def test_the_strictest_of_relative_amounts() -> None:
    """With images by their numbers, without by their shares."""
    text = BASE + "sanity: {checks: [shuffle]}\n"
    for given_text in (text, text.replace("dataset: digits", "dataset: {name: image_folder, root: nowhere}")):
        planned = plan("macs=50%", "macs=4x", "macs=100%", text=given_text)

        assert {"4x macs"} == {check.budget for check in planned.checks}


def test_shares_have_the_keys_of_their_sparsity() -> None:
    """`90%`, `10x` and 0.9 are one budget, under one name."""
    assert plan("0.9").digest == plan("90%").digest == plan("10x").digest


def test_an_amount_has_the_keys_of_the_sparsity_that_it_is() -> None:
    """37 weights and 15 biases are 52 parameters, and 47 bytes of bitmap, 148 of weights and 60 of biases."""
    assert keys(plan("0.9")) == keys(plan("parameters=52")) == keys(plan("bytes=255"))
    assert "mask/snip/52-parameters/seed0" in plan("parameters=52").steps


def test_two_budgets_that_are_one_share_their_steps() -> None:
    """A network within two budgets is made once, and is found under both."""
    planned = plan("0.9", "parameters=52")

    assert keys(plan("0.9")) == keys(planned)
    assert ["0.9", "52 parameters"] == [cell.budget for cell in planned.cells if cell.method == "snip"]
    assert [0.9, 0.9] == [cell.sparsity for cell in planned.cells if cell.method == "snip"]


def test_multiply_adds_are_an_option_of_masks_and_what_is_made_of_them() -> None:
    """No other step knows of them, and no step of a plain sparsity does."""
    planned = plan("0.9", "macs=100")

    assert keys(plan("0.9")) < keys(planned)
    about = planned.steps["mask/snip/100-macs/seed0"].options
    assert ({"macs": 100}, False) == (about["budget"], "sparsity" in about)
    assert {"mask", "emit"} == {step.operation for step in planned.steps.values() if "budget" in step.options}
    assert keys(plan("macs=100")).isdisjoint(step.key for step in plan("macs=101").of("mask"))


def test_a_plan_translates_its_budgets() -> None:
    """In the order of the spec, for the network to prune; every weight of a perceptron is used once."""
    printed = translations(plan("parameters=52", "macs=37"))

    assert printed is not None
    assert [0.9, Between(0.9, 0.9, 0.9)] == [item.sparsity for item in printed]
    assert Between(37, 37, 37) == printed[0].macs


@pytest.mark.parametrize(
    "budget",
    [
        "0.999",
        "parameters=16",
        "parameters=400",
        "macs=1",
        "macs=371",
        "bytes=70",
        "bytes=2kB",
        "macs=0.1%",
        "bytes=50x",
    ],
)
def test_a_plan_refuses_an_impossible_budget(budget: str) -> None:
    """At the place of the budget that is to blame, and before anything has run."""
    with pytest.raises(InvalidValue) as raised:
        check_budget(plan("0.5", budget))

    assert "budget.1" == raised.value.path


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("macs=49%", "{macs: 49%}, 181 macs, is less than the 185 macs that unit `2:4` of method `snip+2of4` keeps"),
        ("parameters=199", "{parameters: 199} is less than the 200 parameters that unit `2:4`"),
        ("macs=60%", ""),
        ("parameters=200", ""),
    ],
)
def test_a_plan_refuses_limits_below_a_pattern(budget: str, message: str) -> None:
    """2:4 keeps half of the weights or more; the hint is its sparsity."""
    planned = plan(budget, text=BASE.replace("method: snip", "method: {preset: snip, unit: 2:4}"))
    if not message:
        check_budget(planned)
        return
    with pytest.raises(InvalidValue, match=re.escape(message)) as raised:
        check_budget(planned)

    assert ("budget.0", "write `budget: 0.5`") == (raised.value.path, raised.value.hint)


def test_every_budget_can_be_planned_without_images() -> None:
    """The number of weights for parameters and bytes is unknown: nothing is translated, and no data are needed."""
    text = BASE.replace("dataset: digits", "dataset: {name: image_folder, root: nowhere}")
    planned = plan("0.9", "macs=100", text=text)
    check_budget(planned)

    assert translations(planned) is None
    assert {} == limits(plan("macs=30%", text=text))
    for budget in ("parameters=52", "bytes=255", "parameters=30%", "bytes=4x", "macs=30%"):
        planned = plan(budget, text=text)
        check_budget(planned)
        assert {None} == {cell.sparsity for cell in planned.cells if cell.mask}
