"""The number of threads for `target.threads: auto`."""

from __future__ import annotations

import pytest

from autosparse.cost.fit import fit_plan
from autosparse.cost.fitted import Fitted
from autosparse.spec import load_spec
from autosparse.store import Store, open_index
from tests.plans import DIGITS, MACHINE, finish, known_rates

CHAIN = ("method=random", "compare=[]", "seeds=[0]", "budget=0.9", "controls=[]", "emit=[]", "training.epochs=500")
"""Overrides for a plan with one training: nothing runs at once."""


def fitted(
    store: Store, *overrides: str, gain: float = 1.0, idle_cores: int = 2, probes: list[str] | None = None
) -> Fitted:
    """The plan of the digits spec on a machine of two cores."""
    calibration = known_rates({"train": 0.01}, gain=gain, idle_cores=idle_cores, probes=probes)
    spec = load_spec(DIGITS, overrides=overrides).spec
    return fit_plan(spec, MACHINE, "digits", store, open_index(store), calibration=calibration)


def chosen(plan: Fitted) -> tuple[int, int]:
    """Workers and threads of each."""
    return plan.workers, plan.placement.threads


@pytest.mark.parametrize(
    ("overrides", "gain", "expected"),
    [
        ((), 1.0, (2, 1)),  # two threads are no faster than one, but two processes are
        ((), 4.0, (1, 2)),
        (CHAIN, 1.5, (1, 2)),
        (CHAIN, 1.0, (1, 1)),  # a tie
    ],
)
def test_threads_are_those_that_finish_the_plan_first(
    store: Store, overrides: tuple[str, ...], gain: float, expected: tuple[int, int]
) -> None:
    """One thread in each of several workers, or all threads in one, by their measured rates."""
    plan = fitted(store, *overrides, gain=gain)

    assert expected == chosen(plan)
    assert expected[1] == plan.plan.spec.target.threads
    assert plan.placement.adaptive


@pytest.mark.parametrize("idle_cores", [0, 1])
def test_a_busy_machine_has_one_thread(store: Store, idle_cores: int) -> None:
    """Threads that wait for each other on a shared core are slow, and are not probed."""
    probes: list[str] = []

    assert 1 == chosen(fitted(store, *CHAIN, gain=2.0, idle_cores=idle_cores, probes=probes))[1]
    assert ["machine", "resnet8"] == probes


def test_load_changes_no_choice_under_a_time_limit(store: Store) -> None:
    """With a limit both numbers of threads are probed at any load, and lower settings are chosen alike."""
    limit = f"target.time={round(0.5 * fitted(store, gain=4.0).seconds)}s"
    idle, busy = (fitted(store, limit, gain=4.0, idle_cores=cores) for cores in (2, 0))

    assert idle.adjustments
    assert idle.adjustments == busy.adjustments
    assert idle.plan.digest == busy.plan.digest


@pytest.mark.parametrize(
    ("override", "threads", "adaptive"),
    [("target.threads=2", 2, False), ("target.workers=2", 1, True), ("target.workers=1", 2, True)],
)
def test_numbers_in_the_spec_stay(store: Store, override: str, threads: int, adaptive: bool) -> None:
    """A number of threads is kept on a busy machine too; the threads of given workers share the cores."""
    plan = fitted(store, override, idle_cores=0)

    assert (threads, adaptive) == (plan.placement.threads, plan.placement.adaptive)


def test_the_number_of_threads_moves_no_key(store: Store) -> None:
    """The target is not part of any cache key: a plan on a busy machine has the same artifacts."""
    idle, busy = fitted(store, gain=2.0), fitted(store, idle_cores=0)
    finish(idle.plan, store)

    assert idle.plan.digest == busy.plan.digest
    assert [] == fitted(store, idle_cores=0).to_run
