"""The work of steps, counted before anything runs."""

from __future__ import annotations

from autosparse.core.criteria import criteria
from autosparse.plan import count_work
from tests.plan.conftest import DIGITS, compiled


def test_the_price_of_prospr_grows_with_its_steps() -> None:
    """A gradient after the steps, and for each of them one there and a Hessian product back; a state for each."""
    facts = criteria["prospr"].facts

    assert [4.5, 11.5] == [facts["gradients"]({"steps": steps}) for steps in (1, 3)]
    assert [3, 5] == [facts["states"]({"steps": steps}) for steps in (1, 3)]


def test_a_warm_up_is_paid_for_at_every_look() -> None:
    """Before each scoring of the network to prune, and before each round of the source is described."""
    asked = ["scorer={name: hazard, warm_up: 7}", "method=learned_rounds", "irp.rounds=3", "compare=[learned, snip]"]
    found = count_work(compiled(DIGITS, *asked))
    units = {name: work.units.get("train") for name, work in found.items() if name.startswith(("label", "mask"))}

    assert 3 * 7 * 128 == units["label/seed100"]
    assert 12 * 7 * 128 == units["mask/learned_rounds/0.9/seed0"]
    assert 7 * 128 == units["mask/learned/0.9/seed0"]
    assert 0 == units["mask/snip/0.9/seed0"]
    assert [128, 0] == [found[f"mask/{name}/0.9/seed0"].batch for name in ("learned", "snip")]
