"""The work of steps, counted before anything runs."""

from __future__ import annotations

from autosparse.core.criteria import criteria
from autosparse.cost.work import count_work
from tests.plans import DIGITS, compiled


def test_the_price_of_prospr_grows_with_its_steps() -> None:
    """A gradient after the steps, and for each of them one there and a Hessian product back; a state for each."""
    facts = criteria["prospr"].facts

    assert [2, 4] == [facts["gradients"]({"steps": steps}) for steps in (1, 3)]
    assert [1, 3] == [facts["hessian_products"]({"steps": steps}) for steps in (1, 3)]
    assert [3, 5] == [facts["states"]({"steps": steps}) for steps in (1, 3)]


def test_a_warm_up_is_paid_for_at_every_look() -> None:
    """Before each scoring of the network to prune, and before each round of the source is described."""
    asked = ["scorer={name: hazard, warm_up: 7}", "method=learned_rounds", "irp.rounds=3", "compare=[learned, snip]"]
    planned = count_work(compiled(DIGITS, *asked))
    units = {name: work.load.units.get("train") for name, work in planned.items() if name.startswith(("label", "mask"))}

    assert 3 * 7 * 128 == units["label/seed100"]
    assert 12 * 7 * 128 == units["mask/learned_rounds/0.9/seed0"]
    assert 7 * 128 == units["mask/learned/0.9/seed0"]
    assert 0 == units["mask/snip/0.9/seed0"]
    assert [128, 0] == [planned[f"mask/{name}/0.9/seed0"].load.batch for name in ("learned", "snip")]


def test_trainings_of_few_weights_have_a_price_of_their_own() -> None:
    """By kernels for those: of networks of which a sixteenth is left, and of the rounds of IRP that train such."""
    asked = [
        "training.kernels=sparse",
        "irp.rounds=8",
        "irp.per_round=0.4",
        "budget=[0.8, 0.98]",
        "compare=[erk, dense]",
    ]
    planned, plain = (count_work(compiled(DIGITS, *some)) for some in (asked, asked[1:]))
    trained = {name: work for name, work in planned.items() if name.startswith(("train", "irp/seed100"))}
    sparse = {name.removesuffix("/seed0") for name, work in trained.items() if "sparse" in work.load.units}

    assert {"train/erk/0.98", *(f"irp/seed100/round{number}" for number in (7, 8))} <= sparse
    assert {"train/erk/0.8", "train/dense", "irp/seed100/round1", "irp/seed100/round6"}.isdisjoint(sparse)
    assert all(("train" in work.load.units) == ("sparse" not in work.load.units) for work in trained.values())
    assert len({planned[f"train/erk/{budget}/seed0"].kind for budget in ("0.8", "0.98")}) == 2
    assert all(plain[name].load.units.get("train") for name in trained)


def test_compiled_trainings_have_a_price_of_their_own() -> None:
    """Compiling once each, whatever masks leave; nothing else of a plan changes."""
    asked = ["irp.rounds=2", "compare=[erk, dense]"]
    planned, plain = (count_work(compiled(DIGITS, *some)) for some in ([*asked, "training.kernels=compiled"], asked))
    trained = {name for name, work in plain.items() if name.startswith(("train", "irp")) and "train" in work.load.units}

    assert trained
    for name in trained:
        assert {"compiled": plain[name].load.units["train"], "compiling": 1} == {
            unit: amount for unit, amount in planned[name].load.units.items() if unit not in plain[name].load.units
        }
        assert "train" not in planned[name].load.units
        assert planned[name].kind != plain[name].kind
    rest = plain.keys() - trained
    assert {name: planned[name].load.units for name in rest} == {name: plain[name].load.units for name in rest}
