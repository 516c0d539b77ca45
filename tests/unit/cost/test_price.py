"""Price: counted work, rates that are remembered and refined, memory; and what a limit takes or refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autosparse.backends import Limit, Machine, Placement, environment
from autosparse.cost.fit import fit_plan
from autosparse.cost.fitted import Fitted, plan_json, remember_use, shared
from autosparse.cost.price import Price, price
from autosparse.cost.rates import Calibration, peak_bytes
from autosparse.cost.work import Work, count_work
from autosparse.errors import FitError
from autosparse.measure.probe import Measurement
from autosparse.planning.model import Plan
from autosparse.planning.status import statuses
from autosparse.spec import load_spec
from autosparse.steps.workload import Workload, sum_counted
from autosparse.store import Store, open_index
from autosparse.store.sealed import seal
from tests.plans import DIGITS, MACHINE, NETWORK_RATES, compiled, finish, known_rates
from tests.sealing import edit

TRAIN, IMAGES, EPOCHS = "train/dense/seed0", 1197, 12


KNOWN = known_rates()


def priced(plan: Plan, store: Store, calibration: Calibration = KNOWN) -> Price:
    """The price of a plan."""
    index = open_index(store)
    return price(plan, store, index, statuses(plan, store, index), calibration=calibration)


def fitted(
    store: Store,
    *overrides: str,
    spec: Path = DIGITS,
    refit: bool = False,
    calibration: Calibration = KNOWN,
    machine: Machine = MACHINE,
) -> Fitted:
    """A spec fitted to its target."""
    loaded, index = load_spec(spec, overrides=overrides), open_index(store)
    return fit_plan(loaded.spec, machine, "digits", store, index, refit=refit, calibration=calibration)


def test_work_is_counted_before_anything_runs() -> None:
    """Images are trained epoch by epoch; a gradient is taken over a criterion's images, in every round."""
    plan = compiled(DIGITS)
    work = count_work(plan)

    assert plan.steps.keys() == work.keys()
    assert IMAGES * EPOCHS == work[TRAIN].load.units["train"] == work[TRAIN].load.amount
    assert 256 == work["mask/snip/0.9/seed0"].load.units["gradient"]
    assert 350 == work["mask/grasp/0.9/seed0"].load.units["gradient"]  # 3.5 passes over 100 images
    assert 103 == work["mask/synflow/0.9/seed0"].load.units["flow"]  # 100 rounds, and what masks leave of paths
    assert 3 * 300 == work["trial/0"].load.units["scorer"]
    assert plan.steps["init/resnet8/seed0"].network.facts.total == work["mask/learned/0.9/seed0"].load.units["features"]


def test_repair_is_counted() -> None:
    """Scores are computed once more to choose replacements, and passes are added for disconnected parts."""
    plan = compiled(DIGITS, "compare=[snip, {name: mended, criterion: snip, repair: reconnect}]")
    work = count_work(plan)
    plain, mended = (work[f"mask/{name}/0.9/seed0"].load.units for name in ("snip", "mended"))

    assert 2 * 256 == 2 * plain["gradient"] == mended["gradient"]
    assert plain["flow"] < mended["flow"]


def test_training_for_a_mask_is_counted(store: Store) -> None:
    """Rounds times steps times images of a batch, with what a search's parts cost; in time and memory."""
    linear = "{name: trained, criterion: magnitude, schedule: {name: linear, rounds: 2, steps: 5}}"
    plan = compiled(DIGITS, "method=mask_search", f"compare=[{linear}, dense]")
    search, rounds = "mask/mask_search/0.9/seed0", "mask/trained/0.9/seed0"
    work, batch = count_work(plan), plan.spec.training.batch
    estimate = priced(plan, store)

    assert pytest.approx(400 * batch * 1.19) == work[search].load.units["train"]
    assert 2 * 5 * batch == work[rounds].load.units["train"]
    assert estimate.steps[search].seconds == pytest.approx(400 * batch * 1.19e-4, rel=0.1)
    assert batch == work[search].load.batch
    assert any(batch == phase.get("train") for phase in work[search].load.memory)
    assert 400 * batch * 1e-4 < estimate.steps[search].seconds


def test_steps_of_a_kind_share_their_rate() -> None:
    """Seed, sparsity and number do not make another kind; the network, the batch and the precision do."""
    work = count_work(compiled(DIGITS, "seeds=[0,1]"))
    other = count_work(compiled(DIGITS, "training.batch=64"))
    longer = count_work(compiled(DIGITS, "training.epochs=24"))

    assert work["train/snip/0.9/seed0"].kind == work["train/erk/0.98/seed1"].kind
    assert work["irp/seed100/round1"].kind == work["irp/seed100/round8"].kind
    assert work["mask/snip/0.9/seed0"].kind != work["mask/grasp/0.9/seed0"].kind
    assert work[TRAIN].kind != other[TRAIN].kind
    assert (work[TRAIN].kind, 2 * work[TRAIN].load.amount) == (longer[TRAIN].kind, longer[TRAIN].load.amount)


def test_seconds_are_counts_times_rates(store: Store) -> None:
    """By hand: the images of a training, one build, one step, and the bytes that are read."""
    plan = compiled(DIGITS)
    estimate = priced(plan, store)
    data = IMAGES * 64 + 2 * 4 * (plan.steps["init/resnet8/seed0"].network.facts.parameters + _buffers(plan))

    assert estimate.steps[TRAIN].seconds == pytest.approx(IMAGES * EPOCHS * 1e-4 + 0.01 + 0.01 + data * 1e-9, abs=1e-3)
    assert "probe" == estimate.steps[TRAIN].basis
    assert estimate.dense == estimate.works[TRAIN].load.counted
    assert (
        2.0 <= estimate.to_run(statuses(plan, store)).seconds - sum(e.seconds for e in estimate.steps.values()) <= 3.5
    )


def test_dense_trainings_do_not_depend_on_the_machine(store: Store) -> None:
    """A machine a hundred times as slow plans the same number, and the same counted work; only seconds differ."""
    slow = known_rates({"train": 1e-2, "gradient": 1e-2, "flow": 1.0, "forward": 1e-3, "scorer": 0.1})
    first, second = (plan_json(fitted(store, calibration=calibration, refit=True)) for calibration in (KNOWN, slow))
    plan = compiled(DIGITS)
    works, once = count_work(plan), count_work(plan)[TRAIN].load.counted
    total = sum_counted(work.load.counted for work in works.values())

    assert second["summary"]["seconds"] > 10 * first["summary"]["seconds"]
    assert first["summary"]["dense_trainings"] == second["summary"]["dense_trainings"]
    assert first["summary"]["dense_trainings"] == pytest.approx(total.macs / once.macs, abs=1e-4)
    assert first["summary"]["counted"] == second["summary"]["counted"]
    assert first["summary"]["counted"]["steps"] == total.steps
    counted = {step["name"]: step["counted"] for step in first["steps"]}
    assert {"steps": 0, "images": 0, "macs": 0} == counted["mask/erk/0.9/seed0"]
    assert counted[TRAIN] == counted["train/snip/0.98/seed0"]


def test_a_plan_with_nothing_to_run_costs_no_training(store: Store) -> None:
    """The cost is that of the steps to run."""
    plan = compiled(DIGITS)
    assert 0 < (fitted(store).trainings or 0)
    finish(plan, store)

    assert 0.0 == fitted(store).trainings


def _buffers(plan: Plan) -> int:
    return plan.steps["init/resnet8/seed0"].network.facts.buffers


def test_a_plan_with_nothing_to_run_asks_nothing_of_the_machine(store: Store) -> None:
    """Reused steps show the time that they took."""
    plan = compiled(DIGITS)
    finish(plan, store)
    probes: list[str] = []
    estimate = priced(plan, store, known_rates(probes=probes))

    assert [] == probes
    assert (1.0, "made") == (estimate.steps[TRAIN].seconds, estimate.steps[TRAIN].basis)
    assert 0.0 == estimate.to_run(statuses(plan, store)).seconds


def test_a_store_that_cannot_be_written_is_no_obstacle(store: Store) -> None:
    """A plan measures again what cannot be remembered."""
    (store.root.parent / store.root.name).write_text("a file where the folder should be", encoding="utf-8")
    plan, probes = compiled(DIGITS), list[str]()

    assert priced(plan, store, known_rates(probes=probes)).steps[TRAIN].seconds > 0
    assert priced(plan, store, known_rates(probes=probes)).steps[TRAIN].seconds > 0
    assert ["machine", "resnet8"] * 2 == probes


def test_a_plan_without_data_probes_nothing(store: Store, tmp_path: Path) -> None:
    """No step has a price, so that torch is not imported either."""
    probes: list[str] = []
    plan = compiled(DIGITS, f"dataset={{name: parquet, path: {tmp_path}/none}}")

    assert {} == priced(plan, store, known_rates(probes=probes)).steps
    assert [] == probes


def test_a_machine_is_probed_once(store: Store) -> None:
    """Rates are remembered for the processor, the threads and the torch; another batch is measured."""
    probes: list[str] = []
    known = known_rates(probes=probes)
    priced(compiled(DIGITS), store, known)
    priced(compiled(DIGITS, "training.lr=0.1"), store, known)
    assert ["machine", "resnet8"] == probes
    priced(compiled(DIGITS, "training.batch=64"), store, known)
    assert ["machine", "resnet8", "resnet8"] == probes
    priced(compiled(DIGITS, "target.threads=1"), store, known)
    assert ["machine", "resnet8", "resnet8", "machine", "resnet8"] == probes


def test_what_is_remembered_badly_is_measured_again(store: Store) -> None:
    """A file that holds something else is no rate."""
    probes: list[str] = []
    priced(compiled(DIGITS), store, known_rates(probes=probes))
    malformed = (
        '{"rates": {"train": "fast"}}', "{}", '{"rates": {"train": 1.0, "base": NaN}}', "[1]", '{"rates": [1]}',
        '{"rates": {}, "derived": 1}', '{"rates": {}, "slowdown": "x"}', '{"train": 1.0}',
    )  # fmt: skip
    for number, text in enumerate(malformed, start=2):
        for path in (store.root / "memory").glob("rates-*.json"):
            path.write_bytes(seal({"name": path.stem, "value": json.loads(text)}))
        priced(compiled(DIGITS), store, known_rates(probes=probes))

        assert 2 * number == len(probes)


def slow_down(file: Path, times: float) -> None:
    """Make remembered rates slower."""

    def slower(about: dict[str, Any]) -> dict[str, Any]:
        rates = {name: times * rate for name, rate in about["value"]["rates"].items()}
        return {**about, "value": {**about["value"], "rates": rates}}

    edit(file, slower)


def cut(slowdown: float, *, now: float, probes: list[str]) -> Calibration:
    """The calibration of a machine where load cut the probe of the network short."""
    known = known_rates(probes=probes, slowdown=now)

    def probe(*about: Any) -> Measurement:
        return replace(known.probe_network(*about), derived=("train",), slowdown=slowdown, load=9.0)

    return replace(known, probe_network=probe)


@pytest.mark.parametrize(("before", "now", "again"), [(1.0, 1.0, 0), (6.0, 5.0, 0), (6.0, 1.0, 1)])
def test_a_probe_that_load_cut_short_is_repeated_on_an_idle_machine(
    store: Store, before: float, now: float, again: int
) -> None:
    """Derived rates of a busy machine stay while it is busy; those of a huge network stay."""
    probes: list[str] = []
    first = priced(compiled(DIGITS), store, cut(before, now=before, probes=probes))
    priced(compiled(DIGITS), store, cut(before, now=now, probes=probes))

    assert 1 + again == probes.count("resnet8")
    assert "counted work" == first.steps[TRAIN].basis
    assert 3.0 * first.steps[TRAIN].seconds == pytest.approx(first.steps[TRAIN].seconds_high, rel=0.01)


def test_estimates_are_ranges(store: Store) -> None:
    """A probe has a wider range than finished steps; a sum has the sums of the ends."""
    plan = compiled(DIGITS, "training.epochs=6")
    made(store, plan, {"train/snip/0.9/seed0": 3.0, "train/erk/0.9/seed0": 4.0})
    planned = priced(compiled(DIGITS), store)
    finished, probed = planned.steps[TRAIN], planned.steps["evaluate/dense/seed0"]

    assert pytest.approx([0.85 * 6, 1.2 * 8]) == [finished.seconds_low, finished.seconds_high]
    assert probed.seconds_low == pytest.approx(0.7 * probed.seconds, rel=0.01)
    assert probed.seconds_high == pytest.approx(1.5 * probed.seconds, rel=0.01)
    together = planned.of([TRAIN, "evaluate/dense/seed0"])
    assert together.seconds_high == pytest.approx(finished.seconds_high + probed.seconds_high)
    assert "probe" == together.basis


def test_a_step_that_ran_on_a_busy_machine_counts_with_its_idle_time(store: Store) -> None:
    """Its wall time was ten times as long."""
    plan = compiled(DIGITS, "training.epochs=6")
    made(store, plan, {"train/snip/0.9/seed0": 40.0}, idle=4.0)

    assert priced(compiled(DIGITS), store).steps[TRAIN].seconds == pytest.approx(8.0)


def made(
    store: Store,
    plan: Plan,
    seconds: dict[str, float],
    *,
    threads: int = 2,
    peak: int = 7 * 10**8,
    placement: Placement | None = None,
    idle: float | None = None,
) -> None:
    """Publish steps that took some seconds."""
    work = count_work(plan)
    for number, (name, duration) in enumerate(seconds.items()):
        step = plan.steps[name]
        about = {
            "step": name,
            "version": step.version,
            "options": step.options,
            "inputs": {},
            "environment": environment(placement or Placement("cpu", threads)),
            "seconds": duration,
            **({} if idle is None else {"idle_seconds": idle}),
            "peak_bytes": peak,
            "work": {"kind": work[name].kind, "amount": work[name].load.amount, "held": work[name].held},
            "created": f"2026-01-01T00:00:{number:02}+00:00",
        }
        store.publish(step.operation, step.key, lambda draft: draft.write("a.bin", b"1234567"), lambda a=about: a)  # type: ignore[misc]


def test_finished_steps_refine_the_price(store: Store) -> None:
    """The median of the latest finished steps of a kind, per unit of work, takes the place of the probe's rate."""
    plan = compiled(DIGITS, "training.epochs=6")
    made(store, plan, {"train/snip/0.9/seed0": 3.0, "train/erk/0.9/seed0": 4.0, "train/snip/0.95/seed0": 30.0})
    planned = priced(compiled(DIGITS), store)

    assert "finished steps" == planned.steps[TRAIN].basis
    assert planned.steps[TRAIN].seconds == pytest.approx(8.0)  # twice the epochs of the middle one
    assert (7 * 10**8, 7) == (planned.steps[TRAIN].peak_bytes, planned.steps[TRAIN].disk_bytes)
    assert "probe" == planned.steps["evaluate/dense/seed0"].basis


def test_steps_of_another_environment_do_not_refine(store: Store) -> None:
    """A time of 100 s with seven threads does not count for two."""
    made(store, compiled(DIGITS), {"train/snip/0.9/seed0": 100.0}, threads=7)

    assert "probe" == priced(compiled(DIGITS), store).steps[TRAIN].basis


@pytest.mark.parametrize("placement", [Placement("cpu", 2, evaluation_batch=10), Placement("cpu", 2, stream=True)])
def test_peaks_of_smaller_places_are_not_taken_for_usual_ones(store: Store, placement: Placement) -> None:
    """The memory of a step with fewer images at once, or with data on disk, does not count for the default."""
    plan = compiled(DIGITS)
    made(store, plan, {"evaluate/snip/0.9/seed0": 1.0}, placement=placement)
    price = priced(plan, store).steps["evaluate/erk/0.9/seed0"]

    assert 7 * 10**8 != price.peak_bytes
    assert ("probe" if placement.stream else "finished steps") == price.basis


def test_peaks_of_other_amounts_of_data_are_not_taken(store: Store) -> None:
    """Twelve times the images are trained at the same rate, and hold more."""
    plan = compiled(DIGITS)
    made(store, compiled(DIGITS, "dataset={name: digits, images_per_class: 10}"), {"train/snip/0.9/seed0": 3.0})
    estimate = priced(plan, store).steps[TRAIN]

    assert ("finished steps", True) == (estimate.basis, estimate.peak_bytes != 7 * 10**8)


def test_peak_memory_is_that_of_the_worst_moment() -> None:
    """Phases do not add up; data on disk and smaller evaluation batches make them smaller."""
    phases = ({"data": 100.0, "bytes": 50.0}, {"bytes": 20.0, "forward": 10.0})
    work = Work("kind", None, Workload({}, {}, phases, 0))
    rates = {"forward_bytes": 30.0}

    assert 320.0 == peak_bytes(work, rates)
    assert 150.0 == peak_bytes(work, rates, evaluated=2)
    assert 80.0 == peak_bytes(work, rates, evaluated=2, streamed=True)


def test_a_plan_that_fits_changes_nothing(store: Store) -> None:
    """Without a limit that binds, the defaults stay."""
    fit = fitted(store)

    assert ((), None) == (fit.adjustments, fit.problem)
    assert Placement("cpu", 2, adaptive=True) == fit.placement


def test_memory_is_kept_by_smaller_evaluations(store: Store) -> None:
    """600 test images at 100 kB make evaluation the largest step; in smaller batches the plan fits."""
    usual = {name: e.peak_bytes for name, e in fitted(store).price.steps.items()}
    heaviest = max(usual, key=lambda name: usual[name])
    assert heaviest.startswith(("mask", "label"))  # 256 gradients at 2 MB: not what can be made smaller
    limit = "target.memory=" + f"{usual[heaviest] - 10**6}B"
    fit = fitted(store, limit)

    assert fit.problem is not None
    assert 3 == fit.problem.exit_code
    assert f"step `{heaviest}`" in fit.problem.message
    would = (fit.problem.hint or "").split("--set ")[1].split("`")[0]
    assert fitted(store, would).problem is None


def test_evaluation_and_data_are_made_smaller(store: Store) -> None:
    """Evaluation batches are halved first; data stay on disk where that is not enough."""
    large = known_rates({"forward_bytes": 1e7})
    usual = max(e.peak_bytes for e in fitted(store, calibration=large).price.steps.values())
    fit = fitted(store, f"target.memory={usual - 10**9}B", calibration=large)

    assert fit.problem is None
    assert ["images evaluated at once"] == [adjustment.what for adjustment in fit.adjustments]
    assert fit.placement.evaluation_batch < 1000
    assert max(e.peak_bytes for n, e in fit.price.steps.items()) <= fit.memory


def test_what_cannot_fit_names_a_batch_that_would(store: Store) -> None:
    """Training at 10 MB an image: the batch is written in keys, so it is named and not changed."""
    large = known_rates({"train_bytes": 1e7})
    fit = fitted(store, "target.memory=1700MB", calibration=large)

    assert fit.problem is not None
    assert "training.batch=64" in (fit.problem.hint or "")
    assert fitted(store, "target.memory=1700MB", "training.batch=64", calibration=large).problem is None


def test_less_memory_than_torch_takes(store: Store) -> None:
    """No size of anything would fit, and the hint says so."""
    fit = fitted(store, "target.memory=100MiB")

    assert fit.problem is not None
    assert "torch and image readers take 869 MiB here, with a process to check" in (fit.problem.hint or "")


def test_the_process_that_checks_models_takes_memory(store: Store) -> None:
    """It imports torch and may run next to every step: its private pages count at the peak, if the plan emits."""
    emits, none = fitted(store), fitted(store, "emit=[]")
    peak = max(estimate.peak_bytes for estimate in emits.price.steps.values())

    assert emits.checking > 3e8
    assert peak + emits.checking == emits.left.peak_bytes
    assert 0 == none.checking
    assert fitted(store, f"target.memory={peak + emits.checking}B").adjustments == ()
    assert fitted(store, f"target.memory={peak + emits.checking - 1}B").adjustments != ()


def test_members_of_a_team_hold_copies(store: Store) -> None:
    """Two processes on one CPU hold everything twice but the pages of libraries, 0.2 GB."""
    one, two = (fitted(store, f"target.devices={n}").price.steps for n in (1, 2))

    assert 2 * one[TRAIN].peak_bytes - 200_000_000 == two[TRAIN].peak_bytes
    assert one["tune"].peak_bytes == two["tune"].peak_bytes


def test_a_step_that_cannot_start_its_threads_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step and the check of its model start threads: the plan names the limit, its source and the rest."""
    monkeypatch.setattr("autosparse.cost.fit.most_processes", lambda: Limit(64, "cgroup v2 pids.max of /"))
    monkeypatch.setattr("autosparse.cost.fit.free_processes", lambda: 11)
    problem = fitted(store, "target.threads=2").problem

    assert problem is not None
    assert problem.message.startswith("a step starts up to 16 processes and threads, and 11 are left")
    assert problem.message.endswith("of the limit of 64 (cgroup v2 pids.max of /)")
    assert fitted(store, "target.threads=2", "emit=[]").problem is None


def test_too_little_memory_for_torch_is_refused_before_its_import(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel would kill a process that imports torch: the plan is refused before, and nothing is measured."""
    monkeypatch.setattr("autosparse.cost.fit.memory_of", lambda device: 200 * 2**20)
    probes: list[str] = []

    with pytest.raises(FitError, match="torch takes about 400 MiB of memory, and 200 MiB are left"):
        fitted(store, calibration=known_rates(probes=probes))

    assert [] == probes


def open_spec(folder: Path, *extra: str) -> Path:
    """The digits spec with its rounds, trials and epochs of the proxy open."""
    text = DIGITS.read_text(encoding="utf-8")
    text = text.replace("rounds: 8", "rounds: auto, epochs: auto").replace("trials: 6", "trials: auto")
    path = folder / "open.yaml"
    path.write_text("\n".join([text, *extra]), encoding="utf-8")
    return path


def test_time_takes_from_what_is_open(store: Store, tmp_path: Path) -> None:
    """Epochs of the proxy go first; compared methods train unchanged, and the price keeps to the limit."""
    path = open_spec(tmp_path)
    usual = fitted(store, spec=path)
    limit = round(usual.left.seconds)
    fit = fitted(store, f"target.time={limit}s", spec=path)

    assert fit.left.seconds <= 0.8 * limit < usual.left.seconds
    assert {"irp.epochs"} == {adjustment.what for adjustment in fit.adjustments} - {"tuning.trials"}
    assert EPOCHS == fit.plan.steps[TRAIN].options["training"]["epochs"]
    assert EPOCHS > fit.plan.steps["irp/seed100/round1"].options["training"]["epochs"] >= 3


def test_time_never_takes_what_was_written(store: Store) -> None:
    """The digits spec writes rounds and trials; only the epochs of its proxy are open."""
    usual = fitted(store)
    fit = fitted(store, f"target.time={round(0.9 * usual.left.seconds)}s")

    assert ["irp.epochs"] == [adjustment.what for adjustment in fit.adjustments]
    assert 8 == fit.plan.spec.irp.rounds


def test_a_choice_is_kept(store: Store, tmp_path: Path) -> None:
    """When the machine turns out a little slower, the next plan has the same keys; `refit` chooses again."""
    path = open_spec(tmp_path)
    limit = f"target.time={round(fitted(store, spec=path).left.seconds)}s"
    first = fitted(store, limit, spec=path)
    for file in (store.root / "memory").glob("rates-*.json"):
        slow_down(file, 1.2)
    slower = known_rates({name: 1.2 * NETWORK_RATES[name] for name in ("train", "gradient")})
    second, third = (fitted(store, limit, spec=path, refit=refit, calibration=slower) for refit in (False, True))

    assert first.plan.digest == second.plan.digest != third.plan.digest
    assert first.adjustments == second.adjustments


def test_a_choice_is_given_up_when_it_takes_far_too_long(store: Store, tmp_path: Path) -> None:
    """1.3 times the limit is the most that a remembered choice may take."""
    path = open_spec(tmp_path)
    limit = f"target.time={round(fitted(store, spec=path).left.seconds)}s"
    first = fitted(store, limit, spec=path)
    for file in (store.root / "memory").glob("rates-*.json"):
        slow_down(file, 2.0)

    assert first.plan.digest != fitted(store, limit, spec=path).plan.digest


def test_a_finished_choice_has_nothing_to_run(store: Store, tmp_path: Path) -> None:
    """After a run under a limit, the same spec reuses all of it, however slow the machine is by then."""
    path = open_spec(tmp_path)
    limit = f"target.time={round(fitted(store, spec=path).left.seconds)}s"
    finish(fitted(store, limit, spec=path).plan, store)
    for file in (store.root / "memory").glob("rates-*.json"):
        slow_down(file, 9.0)

    assert {"reuse"} == {status.status for status in fitted(store, limit, spec=path).statuses.values()}


def test_too_little_time_is_refused_with_what_would_do(store: Store, tmp_path: Path) -> None:
    """Even the least of everything takes longer: the hint's time is one that fits."""
    path = open_spec(tmp_path)
    fit = fitted(store, "target.time=5s", spec=path)

    assert isinstance(fit.problem, FitError)
    assert "even with the minimum of irp.epochs, tuning.trials, irp.rounds" in fit.problem.message
    assert fit.problem.hint is not None
    would = fit.problem.hint.split("--set ")[1].split("`")[0]
    assert fitted(store, would, spec=path).problem is None


def test_an_irp_is_spread_over_the_specs_that_use_it(store: Store) -> None:
    """Two specs that ran, and this one: a third each."""
    plan = compiled(DIGITS)
    finish(plan, store)
    index = open_index(store)
    by_step = price(plan, store, index, statuses(plan, store, index), calibration=KNOWN)
    for user in ("a.yaml", "b.yaml", "a.yaml"):
        remember_use(plan, store, user)
    sharing = shared(plan, store, index, by_step, "c.yaml")

    assert sharing is not None
    assert (10.0, 3) == (sharing.seconds, sharing.specs)  # init, 8 rounds and labels of a second each
    assert sharing.each == pytest.approx(10 / 3)


def test_a_proxy_is_priced(store: Store) -> None:
    """A trial that trains takes the images of its epochs, a mask, and one more fit of the scorer."""
    usual, with_proxy = (
        fitted(store, *overrides).price.works["trial/1"].load.units for overrides in ((), ("tuning.proxy={epochs: 2}",))
    )
    images = fitted(store).price.works[TRAIN].load.units["train"] / EPOCHS

    assert "train" not in usual
    assert 2 * images == with_proxy["train"]
    assert pytest.approx(usual["scorer"] * 4 / 3) == with_proxy["scorer"]
    assert with_proxy["gradient"] > 0 < with_proxy["forward"]


def test_the_json_of_a_plan_has_its_price(store: Store) -> None:
    """Every step has an estimate; the summary adds them up and says whether it fits."""
    fit = fitted(store)
    document = plan_json(fit)

    assert all(step["estimate"]["seconds"] > 0 for step in document["steps"])
    assert document["summary"]["fits"] is True
    assert document["summary"]["seconds"] == pytest.approx(fit.left.seconds, abs=0.01)
    assert document["summary"]["seconds"] > 2.0
    assert fitted(store, "target.memory=100MiB").problem is not None
    assert plan_json(replace(fit, problem=FitError("too large")))["summary"]["fits"] is False


def test_a_plan_that_fits_is_not_refused_for_its_least(store: Store, tmp_path: Path) -> None:
    """With the default IRP in the store, the least of everything costs more than the rest: nothing changes."""
    path = open_spec(tmp_path)
    usual = fitted(store, spec=path)
    finish(usual.plan, store)
    left = fitted(store, "seeds=[0,1]", spec=path).left.seconds
    fit = fitted(store, "seeds=[0,1]", f"target.time={round(1.1 * left)}s", spec=path)

    assert fit.problem is None
    assert fit.left.seconds <= 1.1 * left
