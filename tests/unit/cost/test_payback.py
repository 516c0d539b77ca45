"""A plan shows the compile time next to the saved time."""

from __future__ import annotations

import pytest

from autosparse.console.plan import show_plan
from autosparse.cost.fit import fit_plan
from autosparse.cost.fitted import Fitted, paybacks, plan_json
from autosparse.cost.rates import Calibration
from autosparse.spec import load_spec
from autosparse.store import Store, open_index
from tests.plans import DIGITS, MACHINE, NETWORK_RATES, finish, known_rates

SETTINGS = ("training.kernels=compiled", "irp.rounds=2", "compare=[dense]", "budget=0.9", "target.threads=1")


KNOWN = known_rates(gain=1.0)


def fitted(store: Store, *settings: str, calibration: Calibration = KNOWN) -> Fitted:
    """The plan of the digits, fitted."""
    spec = load_spec(DIGITS, overrides=settings).spec
    return fit_plan(spec, MACHINE, "digits", store, open_index(store), calibration=calibration)


def test_what_compiling_saves(store: Store) -> None:
    """Images at the difference of two rates, less the seconds of each training."""
    plan = fitted(store, *SETTINGS)
    (estimate,) = paybacks(plan)
    works = [plan.price.works[name] for name in plan.to_run]
    images = sum(work.load.units.get("compiled", 0) for work in works)
    dense, compiled_rate, compiling = (NETWORK_RATES[name] for name in ("train", "compiled", "compiling"))

    assert sum("compiled" in work.load.units for work in works) == estimate.trainings > 2
    assert ("resnet8", compiling) == (estimate.model, estimate.seconds)
    assert dense / compiled_rate == pytest.approx(estimate.times)
    assert images * (dense - compiled_rate) - estimate.trainings * compiling == pytest.approx(estimate.saved)
    assert estimate.json() == plan_json(plan)["summary"]["compiling"][0]


@pytest.mark.parametrize(("rate", "printed"), [(1e-6, "saved"), (2e-4, "lost; `--set training.kernels=dense`")])
def test_a_plan_tells_it(store: Store, capsys: pytest.CaptureFixture[str], rate: float, printed: str) -> None:
    """In words, if it pays off and if not."""
    known = known_rates({"train": 1e-4, "compiled": rate, "compiling": 0.1}, gain=1.0)
    show_plan(fitted(store, *SETTINGS, calibration=known), None, every_step=False)
    out = " ".join(capsys.readouterr().out.split())

    assert "compiling resnet8 takes 0.1 s of each of" in out
    assert f"{1e-4 / rate:.2f} times as fast" in out
    assert printed in out


def test_other_kernels_have_nothing_to_tell(store: Store) -> None:
    """Nor has a machine that cannot compile, nor a plan whose trainings are all there."""
    assert not paybacks(fitted(store, *SETTINGS[1:]))
    plan = fitted(store, *SETTINGS)
    finish(plan.plan, store, threads=1)

    assert not paybacks(fitted(store, *SETTINGS))
    # What checks train is compiled too, and is all there is left to run.
    assert paybacks(fitted(store, *SETTINGS, "sanity={}"))


def test_a_machine_that_cannot_compile_says_nothing(store: Store) -> None:
    """A run names the missing part; until then trainings have the price of others."""
    known = known_rates({"compiled": None, "compiling": None})
    plan, plain = (fitted(store, *settings, calibration=known) for settings in (SETTINGS, SETTINGS[1:]))

    assert not paybacks(plan)
    assert plain.left.seconds == pytest.approx(plan.left.seconds)


def test_all_that_trains_has_its_price(store: Store) -> None:
    """Checks, and trials that train: as long as their own trainings at least."""
    asked = ("sanity={}", "tuning={trials: 1, proxy: {weight: 0.5}}")
    compiled, dense = fitted(store, *SETTINGS, *asked), fitted(store, *SETTINGS[1:], *asked)
    works = dense.price.works
    trained = [name for name, work in works.items() if work.load.units.get("train") and name in dense.to_run]
    compiled_steps = {name for name in trained if "compiled" in compiled.price.works[name].load.units}

    assert any(name.startswith("trial") for name in compiled_steps)
    assert any(name.startswith("sanity") for name in compiled_steps)
    for name in compiled_steps:
        assert compiled.price.steps[name].seconds > NETWORK_RATES["compiling"]
        assert compiled.price.steps[name].peak_bytes > dense.price.steps[name].peak_bytes
