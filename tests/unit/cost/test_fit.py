"""Fit: choices under a time limit, the specs that share them, and the sizes that a refusal names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from autosparse.cost.fit import fit_plan, fit_steps
from autosparse.cost.fitted import Fitted
from autosparse.cost.time_limit import first_fitting, remembered_settings
from autosparse.errors import FitError
from autosparse.spec import load_spec
from autosparse.store import Store, open_index
from tests.plans import DIGITS, MACHINE, NETWORK_RATES, finish, known_rates, publish
from tests.unit.cost.test_price import fitted, made, open_spec


def limit_of(store: Store, path: Path, share: float = 1.0) -> str:
    """A limit of time that is a share of what the spec takes without one."""
    return f"target.time={round(share * fitted(store, spec=path).left.seconds)}s"


def settings_of(fit: Fitted) -> tuple[float, int, int]:
    """Epochs, trials and rounds of a plan."""
    spec = fit.plan.spec
    assert isinstance(spec.irp.rounds, int)
    assert isinstance(spec.tuning.trials, int)
    assert spec.irp.training is not None
    return spec.irp.training.epochs, spec.tuning.trials, spec.irp.rounds


def test_a_look_at_a_variant_leaves_the_choice(store: Store, tmp_path: Path) -> None:
    """More seeds take more time and another choice; the spec's own stays, with the rounds that were made for it."""
    path = open_spec(tmp_path)
    limit = limit_of(store, path)
    base = fitted(store, limit, spec=path)
    for step in base.plan.of("irp")[:3]:
        publish(store, base.plan, step)
    variant = fitted(store, limit, "seeds=[0,1,2,3]", spec=path)

    assert settings_of(base) != settings_of(variant)
    assert base.plan.digest == fitted(store, limit, spec=path).plan.digest
    assert variant.plan.digest == fitted(store, limit, "seeds=[0,1,2,3]", spec=path).plan.digest


def test_rounds_are_not_lowered_below_what_a_scorer_learns_from(store: Store, tmp_path: Path) -> None:
    """Of a quarter each it takes three to leave less than half; a choice of two from before is not taken."""
    path = open_spec(tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace("scorer: mlp\n", ""), encoding="utf-8")
    least = fitted(store, "target.time=1s", "irp.per_round=0.25", spec=path)

    assert isinstance(least.problem, FitError)
    assert 3 == settings_of(least)[2]


def test_a_variant_takes_the_choice_whose_rounds_are_there(store: Store, tmp_path: Path) -> None:
    """After a run, a budget more reuses the IRP that was chosen; before it, every spec chooses for itself."""
    path = open_spec(tmp_path)
    limit = limit_of(store, path)
    base = fitted(store, limit, spec=path)
    before = fitted(store, limit, "budget=[0.9]", spec=path)
    finish(base.plan, store)
    after = fitted(store, limit, "budget=[0.95]", spec=path)

    assert settings_of(before) != settings_of(base) == settings_of(after)
    assert {"reuse"} == {after.statuses[step.name].status for step in after.plan.of("irp")}


def test_what_is_in_the_cache_is_not_lowered(store: Store, tmp_path: Path) -> None:
    """Less of it would have to be made: a plan that fits stays, one that does not is refused as it is."""
    path = open_spec(tmp_path)
    finish(fitted(store, spec=path).plan, store)
    usual = fitted(store, "budget=[0.99]", spec=path)
    fits, short = (
        fitted(store, "budget=[0.99]", f"target.time={share * usual.left.seconds:.0f}s", spec=path)
        for share in (1.05, 0.5)
    )
    horizon = fitted(store, "budget=[0.99]", "method.horizon=auto", "target.time=1s", spec=path)

    assert (None, ()) == (fits.problem, fits.adjustments)
    assert () == short.adjustments
    assert "s, with everything that it may lower in the cache, above `target.time`" in str(short.problem)
    assert ["method.horizon"] == [adjustment.what for adjustment in horizon.adjustments]
    assert "even with the minimum of method.horizon, above" in str(horizon.problem)


def test_nothing_is_chosen_before_the_data_are_there(store: Store, tmp_path: Path) -> None:
    """Start-up alone fits into any time: the defaults are planned, and not remembered as a choice."""
    path = open_spec(tmp_path)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("dataset: digits", f"dataset: {{name: parquet, path: {tmp_path}}}"), encoding="utf-8")
    overrides = ("target.time=10s",)
    fit = fitted(store, *overrides, spec=path)

    assert (False, (), None) == (fit.priced, fit.adjustments, fit.problem)
    assert {} == remembered_settings(load_spec(path, overrides=overrides).spec, store)


def test_a_kept_choice_says_that_it_takes_longer(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to 1.3 times the limit it is kept, with a note."""
    path = open_spec(tmp_path)
    limit = limit_of(store, path)
    first = fitted(store, limit, spec=path)
    monkeypatch.setattr("autosparse.cost.time_limit._KEPT", 10.0)
    slow = {name: 3 * rate for name, rate in NETWORK_RATES.items() if not name.endswith("bytes")}
    for file in (store.root / "memory").glob("rates-*.json"):
        file.unlink()
    second = fitted(store, limit, spec=path, calibration=known_rates(slow))

    assert (first.adjustments, ()) == (second.adjustments, first.notes)
    assert "above `target.time`" in second.notes[0]
    assert "`--refit` chooses again" in second.notes[0]


def test_time_for_tuning_goes_by_several_trials(store: Store, tmp_path: Path) -> None:
    """The first may have been the shortest. If one is too long, it runs all the same, with a note."""
    path = open_spec(tmp_path)
    plan = fitted(store, "tuning.trials=3", spec=path).plan
    made(store, plan, {"trial/0": 0.01, "trial/1": 4.0, "trial/2": 4.0})
    fit, one = (fitted(store, f"tuning.time={time}", spec=path) for time in ("20s", "1s"))

    assert 4 <= settings_of(fit)[1] <= 8
    assert () == fit.notes
    assert 1 == fitted(store, "tuning.time=1s", "tuning.seed=5", spec=path).plan.spec.tuning.trials
    assert 1 == one.plan.spec.tuning.trials
    notes = fitted(store, "tuning.time=1s", "tuning.seed=5", spec=path).notes
    assert ["the minimum of one trial takes about 4 s, above `tuning.time` 1s"] == [*notes]


def test_settings_that_were_chosen_can_be_asked_for(store: Store, tmp_path: Path) -> None:
    """The settings that `render` shows are those of the plan."""
    path = open_spec(tmp_path)
    limit = limit_of(store, path)
    fit = fitted(store, limit, spec=path)
    chosen = remembered_settings(load_spec(path, overrides=[limit]).spec, store)

    assert settings_of(fit) == tuple(chosen[name] for name in ("irp.epochs", "tuning.trials", "irp.rounds"))


def test_time_for_tuning_becomes_trials(store: Store, tmp_path: Path) -> None:
    """As many as fit by the price of one, at least one, never more than are written; the plan says so, and keeps it."""
    path = open_spec(tmp_path)
    each = fitted(store, spec=path).price.steps["trial/0"].seconds
    open_, written, least = (
        fitted(store, f"tuning.time={share * each}s", *more, spec=path)
        for share, more in ((30.5, ()), (30.5, ("tuning.trials=7",)), (0.1, ()))
    )
    for file in (store.root / "memory").glob("rates-*.json"):
        file.unlink()
    slow = known_rates({"scorer": 1.0})
    again, refitted = (
        fitted(store, f"tuning.time={30.5 * each}s", spec=path, refit=refit, calibration=slow)
        for refit in (False, True)
    )

    assert [30, 7, 1] == [len(result.plan.of("trial")) for result in (open_, written, least)]
    assert [f"tuning.trials auto → 30 for tuning.time {30.5 * each}s"] == [
        f"{adjustment} for {adjustment.limit}" for adjustment in open_.adjustments
    ]
    assert () == written.adjustments
    assert open_.plan.digest == again.plan.digest != refitted.plan.digest


def test_what_time_for_tuning_became_is_rendered(store: Store, tmp_path: Path) -> None:
    """A number of trials without the limit, so that the rendered spec is the same plan on any machine."""
    path, overrides = open_spec(tmp_path), ["tuning.time=1s"]
    before = remembered_settings(load_spec(path, overrides=overrides).spec, store)
    fit = fitted(store, *overrides, spec=path)
    after = remembered_settings(load_spec(path, overrides=overrides).spec, store)

    assert {} == before
    assert {"tuning.trials": len(fit.plan.of("trial")), "tuning.time": "unlimited"} == after
    assert "unlimited" == fit.plan.spec.tuning.time


def test_a_limit_holds_for_the_steps_that_run(store: Store, tmp_path: Path) -> None:
    """Some steps of a plan that does not fit may fit; those that do not are refused with what would do."""
    path = open_spec(tmp_path)
    fit = fitted(store, "target.time=5s", spec=path)
    cheap = [step.name for step in fit.plan.of("data") + fit.plan.of("init")]
    dear = [*cheap, *(step.name for step in fit.plan.of("train"))]
    refused = fit_steps(fit, dear).problem

    assert isinstance(fit.problem, FitError)
    assert fit_steps(fit, cheap).problem is None
    assert refused is not None
    assert "these steps take about" in refused.message


def test_memory_holds_for_the_steps_that_run(store: Store) -> None:
    """Training is too large for the limit, and evaluation of existing networks is not."""
    fit = fitted(store, "target.memory=3GB", calibration=known_rates({"train_bytes": 1e8}))
    some = fit_steps(fit, [step.name for step in fit.plan.of("evaluate")])
    refused = fit_steps(fit, [step.name for step in fit.plan.of("train")]).problem

    assert fit.problem is not None
    assert some.problem is None
    assert refused is not None
    assert "step `train/" in refused.message


def test_a_batch_is_named_where_it_is_written(store: Store, tmp_path: Path) -> None:
    """The proxy trains by the spec's recipe unless it has its own: the hint keeps that, and what it names fits."""
    large = known_rates({"train_bytes": 1e7})
    other_spec = tmp_path / "own.yaml"
    text = DIGITS.read_text(encoding="utf-8")
    other_spec.write_text(text.replace("per_round:", "training: {epochs: 3, batch: 256}, per_round:"), encoding="utf-8")
    for path, name in ((DIGITS, "`--set training.batch="), (other_spec, "`--set irp.training.batch=")):
        fit = fitted(store, "target.memory=1700MB", spec=path, calibration=large)
        assert fit.problem is not None
        hint = fit.problem.hint or ""
        if path == other_spec:  # the spec's own training is too large as well: no batch of the proxy would do
            assert "batch" not in hint
            fit = fitted(store, "target.memory=1700MB", "training.batch=32", spec=path, calibration=large)
            assert fit.problem is not None
            hint = fit.problem.hint or ""
        assert name in hint
        setting = hint.split(name)[1].split("`")[0]
        others = ("training.batch=32",) if path == other_spec else ()
        would = fitted(store, "target.memory=1700MB", *others, name.split()[1] + setting, spec=path, calibration=large)
        assert would.problem is None


def test_refit_measures_the_machine_again(store: Store) -> None:
    """The remembered rates may come from an hour in which the machine was busy."""
    probes: list[str] = []
    for refit, times in ((False, 1), (False, 1), (True, 2)):
        fitted(store, "target.threads=2", refit=refit, calibration=known_rates(probes=probes))
        assert times == probes.count("machine")


def test_a_plan_measures_once_where_nothing_can_be_remembered(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit of time is tried with many plans; the machine is measured for the first."""
    monkeypatch.setattr(Store, "note", lambda self, name, value: None)
    probes: list[str] = []
    limits = ("target.time=20s", "target.threads=2")
    fitted(store, *limits, spec=open_spec(tmp_path), calibration=known_rates(probes=probes))

    assert ["machine", "resnet8"] == probes


@pytest.mark.parametrize(
    ("first", "asked"), [(0, [0]), (1, [0, 4, 2, 1]), (3, [0, 4, 2, 3]), (4, [0, 4, 2, 3]), (9, [0, 4])]
)
def test_the_first_setting_that_fits_is_bisected(first: int, asked: list[int]) -> None:
    """Of five, the first that fits, or the last where none does; each number is asked for once."""
    calls: list[int] = []

    def fits(number: int) -> bool:
        calls.append(number)
        return number >= first

    assert min(first, 4) == first_fitting(5, fits)
    assert asked == calls


def test_a_single_setting_is_not_bisected() -> None:
    """It is the answer, whether it fits or not."""
    assert 0 == first_fitting(1, lambda number: True)
    assert 0 == first_fitting(1, lambda number: False)


def test_the_slowdown_of_a_busy_machine_changes_no_choice(store: Store) -> None:
    """The range here, now, is longer; idle seconds, the choice under a time limit and the keys stay, with a note."""
    fits = {}
    for slowdown in (1.0, 4.0):
        spec, index = load_spec(DIGITS, overrides=["target.time=10min"]).spec, open_index(store)
        known = known_rates(slowdown=slowdown)
        fits[slowdown] = fit_plan(spec, MACHINE, "digits", store, index, refit=True, calibration=known)
    idle, busy = fits.values()

    assert (idle.plan.digest, idle.seconds, idle.idle_range) == (busy.plan.digest, busy.seconds, busy.idle_range)
    assert idle.idle_range == idle.present_range
    assert busy.present_range == pytest.approx([4 * seconds for seconds in busy.idle_range])
    assert () == idle.notes
    assert busy.notes[-1].startswith("this machine is busy: `target.time` 10min is compared")


def test_a_plan_measures_the_machine_once(store: Store) -> None:
    """With a note for the first time only."""
    notes: list[str] = []
    for _ in range(2):
        spec, index = load_spec(DIGITS).spec, open_index(store)
        fit_plan(spec, MACHINE, "digits", store, index, notes.append, calibration=known_rates())

    assert ["measuring this machine, once for a network and a batch size; at most 10 s each"] == notes


def test_a_slow_precision_is_a_warning(store: Store, tmp_path: Path) -> None:
    """Only where it is set, and the processor computes float32 faster."""
    path, slow = open_spec(tmp_path), "`training.precision: float32` takes less time"
    plain, bfloat16 = replace(MACHINE, cpu_bfloat16=False), "training.precision=bfloat16"
    cases = [(plain, (bfloat16,)), (plain, ()), (replace(MACHINE, cpu_bfloat16=True), (bfloat16,))]

    warned = [
        any(note.endswith(slow) for note in fitted(store, *values, spec=path, machine=machine).notes)
        for machine, values in cases
    ]

    assert [True, False, False] == warned
