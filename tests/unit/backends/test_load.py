"""Load by other processes, and the threads of a call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from autosparse.backends import Placement, environment
from autosparse.backends._base import _Local
from autosparse.backends.load import fitting_threads, is_busy, runnable_others


@pytest.fixture
def four_threads() -> Iterator[None]:
    """Give torch four threads for a test."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_own_threads_are_no_load(tmp_path: Path) -> None:
    """The kernel counts all runnable threads; this process's are subtracted, even with a `)` in their name."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/loadavg").write_text("0.50 0.40 0.30 7/950 4711\n")
    for number, state in enumerate("RRSD"):
        task = tmp_path / f"proc/self/task/{number}"
        task.mkdir(parents=True)
        (task / "stat").write_text(f"{number} (a) R b) {state} 1 2 3\n")

    assert 5 == runnable_others(tmp_path)


@pytest.mark.parametrize("text", [None, "", "0.5 0.4", "0.5 0.4 0.3 x/y 1", "0.00 0.00 0.00 0/0 0"])
def test_a_system_without_the_count_is_idle(tmp_path: Path, text: str | None) -> None:
    """Without a readable /proc/loadavg no other process is counted."""
    if text is not None:
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc/loadavg").write_text(text)

    assert 0 == runnable_others(tmp_path)


@pytest.mark.parametrize(
    ("counts", "busy"), [([0] * 5, False), ([1] * 5, False), ([2] * 5, True), ([9, 9, 1, 0, 0], False)]
)
def test_a_machine_is_busy_if_others_want_every_core(counts: list[int], busy: bool) -> None:
    """Processes that wake for a moment do not count: the median of the samples decides."""
    samples = iter(counts)

    assert busy == is_busy(lambda: next(samples), cores=2)


@pytest.mark.parametrize(
    ("cores", "idle", "threads"), [(8, 8, 4), (2, 8, 2), (1, 8, 1), (8, 3, 3), (8, 1, 1), (8, 0, 1)]
)
@pytest.mark.usefixtures("four_threads")
def test_threads_fit_within_the_call_alone(cores: int, idle: int, threads: int) -> None:
    """Threads are at most the usable and the idle cores, at least one, and the caller's again after an error."""
    inside = []

    def fail() -> None:
        with fitting_threads(cores=cores, idle=lambda: idle) as number:
            inside.append((number, torch.get_num_threads()))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert [(threads, threads)] == inside
    assert 4 == torch.get_num_threads()


def test_the_callers_threads_are_never_raised() -> None:
    """A caller with one thread keeps it, and nothing is measured."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with fitting_threads(cores=8, idle=lambda: pytest.fail("one thread needs no measurement")):
            assert 1 == torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def test_a_step_uses_the_idle_cores_if_its_threads_are_auto() -> None:
    """With `threads: auto` a step runs with fewer threads on a busy machine, which its environment records."""
    placement = Placement("cpu", 4)
    backends = [_Local(replace(placement, adaptive=adaptive), lambda: nullcontext(1)) for adaptive in (False, True)]

    asked = [backend.run(lambda placed: placed) for backend in backends]

    assert [4, 1] == [placed.threads for placed in asked]
    assert [4, 1] == [environment(placed)["threads"] for placed in asked]
