"""Latency budgets of a plan: one table for all masks, one key for all notations, and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autosparse.backends import Machine, this_machine, version_of
from autosparse.cost.work import count_work
from autosparse.errors import InvalidValue, SpecError
from autosparse.planning import latency, status
from autosparse.planning.budgets import check_budget, limits, plan_budget, translations
from autosparse.planning.builder import facts_of
from autosparse.planning.compile import compile_plan
from autosparse.planning.model import Plan, PlannedBudget, strictest
from autosparse.planning.status import missing_libraries, statuses
from autosparse.spec import load_spec, resolve
from autosparse.store import Store

MACHINE = Machine("a processor", cores=1, cpu_bfloat16=True, devices=("cpu",), cuda_bfloat16=False)
METHOD = {"preset": "magnitude", "unit": "channel"}
BASE: dict[str, Any] = {
    "model": "lenet", "dataset": "digits", "method": METHOD, "compare": [{"preset": "snip", "unit": "channel"}],
    "controls": [], "training": {"precision": "float32"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(tmp_path / "cache"))


def plan(*budget: Any, **changed: Any) -> Plan:
    """The plan of a small spec with these budgets."""
    return compile_plan(resolve(load_spec({**BASE, **changed}, budget=[*budget]).spec, MACHINE), "spec")


def mask_keys(plan: Plan) -> dict[str, str]:
    """Name of a mask without its budget -> key."""
    return {step.name.split("/")[1]: step.key for step in plan.of("mask")}


def test_one_table_serves_methods_seeds_and_budgets() -> None:
    """Another batch size takes another table; the processor and the threads are keyed."""
    made = plan({"latency": "2x"}, {"latency": "5ms"}, {"latency": "2x", "batch": 8}, seeds=[0, 1])
    tables = made.of("latency")

    assert ["latency/lenet/batch1-threads1", "latency/lenet/batch8-threads1"] == [step.name for step in tables]
    machine = {"processor": this_machine().processor, "runtime_version": version_of("onnxruntime")}
    assert {"batch": 1, "threads": 1, "runtime": "onnxruntime", **machine} == {
        name: value for name, value in tables[0].options.items() if name not in ("model", "shape", "classes")
    }
    assert 12 == len(made.of("mask"))
    for step in made.of("mask"):
        assert step.inputs["latency"] == f"latency/lenet/batch{8 if 'batch-8' in step.name else 1}-threads1"


def test_another_processor_or_runtime_has_another_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """The masks move with it."""
    here = plan({"latency": "2x"})
    monkeypatch.setattr(latency, "this_machine", lambda: replace(this_machine(), processor="another"))
    there = plan({"latency": "2x"})
    monkeypatch.setattr(latency, "version_of", lambda package: f"another {package}")
    newer = plan({"latency": "2x"})

    assert not {*mask_keys(here).values()} & {*mask_keys(there).values()}
    assert not {*mask_keys(there).values()} & {*mask_keys(newer).values()}
    assert here.steps["init/lenet/seed0"].key == there.steps["init/lenet/seed0"].key


def test_notations_of_one_latency_share_masks() -> None:
    """2x is 50 %, and 5 ms are 5,000 us; batch 1 is the default."""
    assert mask_keys(plan({"latency": "2x"})) == mask_keys(plan({"latency": "50%", "batch": 1}))
    assert mask_keys(plan({"latency": "5ms"})) == mask_keys(plan({"latency": "5000us", "runtime": "onnxruntime"}))
    assert mask_keys(plan({"latency": "2x"})) != mask_keys(plan({"latency": "3x"}))


def test_names_of_steps_have_no_commas() -> None:
    """A shell splits nothing."""
    made = plan({"latency": "50%", "batch": 8, "threads": 1})

    assert "mask/magnitude+channel/50-percent-latency-batch-8-1-thread/seed0" in made.steps


def test_a_latency_has_no_other_currency() -> None:
    """It is neither checked nor translated before the masks exist."""
    made = plan({"latency": "2x"}, {"macs": "30%"})
    check_budget(made)

    assert ["30% macs"] == [item.budget for item in translations(made) or []]
    assert ["30% macs"] == [*limits(made)]


def test_the_strictest_of_latencies() -> None:
    """Sparsities decide first, then multiply-adds, then relative latencies."""
    budgets = [_only({"latency": amount}) for amount in ("2x", "4x", "5ms")]
    of_macs, sparse = _only({"macs": "30%"}), _only(0.5)

    assert "4x latency" == strictest(budgets).label
    assert "30% macs" == strictest([*budgets, of_macs]).label
    assert "0.5" == strictest([*budgets, of_macs, sparse]).label


def _only(budget: Any) -> PlannedBudget:
    made = plan(budget)
    one = made.spec.budget[0]
    if isinstance(one, float):
        return PlannedBudget(str(one), one)
    return plan_budget(one, facts_of(made.steps["init/lenet/seed0"]), "lenet")


def test_a_smaller_network_is_priced_by_its_share() -> None:
    """Training at a quarter of the latency costs a quarter; a number of seconds is of an unknown whole."""
    steps = {label: plan({"latency": label}) for label in ("4x", "5ms", "1x")}
    work = {
        label: next(count_work(made)[step.name].load.counted.macs for step in made.of("train"))
        for label, made in steps.items()
    }

    assert work["4x"] == pytest.approx(work["1x"] / 4, rel=1e-6)
    assert work["5ms"] == work["1x"]


def test_single_weights_are_refused() -> None:
    """The message names the method, the hint the unit."""
    with pytest.raises(SpecError, match="`snip` prunes single weights, which buys no time in onnxruntime") as caught:
        plan({"latency": "2x"}, method="snip", compare=[])
    assert "`unit: channel`" in str(caught.value.hint)
    with pytest.raises(SpecError, match="`erk` prunes single weights") as caught:
        plan({"latency": "2x"}, compare=["erk"])
    assert "or remove it from `compare`" in str(caught.value.hint)


def test_more_threads_than_cores_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads of the target are at most the cores; those of a budget are the user's word."""
    monkeypatch.setattr(latency, "this_machine", lambda: MACHINE)

    assert 1 == plan({"latency": "2x"}, target={"threads": 4}).of("latency")[0].options["threads"]
    with pytest.raises(InvalidValue, match="3 threads exceed the 1 cores of this machine"):
        plan({"latency": "2x", "threads": 3})


def test_the_extra_is_missing_at_plan_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As for the format `onnx`."""
    monkeypatch.setattr(status, "missing_extras", lambda: {"onnx": "pip install 'autosparse[onnx]'"})
    made = plan({"latency": "2x"})

    problems = missing_libraries(made, statuses(made, Store(tmp_path / "store")))

    assert [
        ("a latency budget needs extra `onnx`, which is not installed", "run `pip install 'autosparse[onnx]'`")
    ] == problems
