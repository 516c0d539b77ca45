"""The probe measures what the training loop, the criteria and the store really do."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch

from autosparse.backends import PeakMemory, Placement, memory_of, release_memory, resident_memory
from autosparse.core.training.loop import Recipe
from autosparse.errors import MissingExtra
from autosparse.measure import probe

CPU = Placement("cpu", 1)


def test_compiled_kernels_are_compared_with_dense_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """By epochs after the first, which compiles; slow ones, of a machine that is busy, count for neither."""
    clock = [0.0]
    monkeypatch.setattr("autosparse.measure.probe.time.perf_counter", lambda: clock[0])
    seconds = {"dense": iter([2.0, 2.5, 9.0, 2.0] * 2), "compiled": iter([31.0, 1, 1, 1, 6.0, 1, 5, 1, 5.5, 1, 1, 8])}

    def train(recipe: Recipe, generator: torch.Generator, observe: Callable[[], None]) -> None:
        for _ in range(int(recipe.epochs)):
            clock[0] += next(seconds[recipe.kernels])
            observe()

    rates = probe._compiled(train, Recipe(epochs=3), 0.5, torch.device("cpu"))

    assert {"compiled": 0.25, "compiling": 4.5} == rates


def test_a_machine_without_a_compiler_has_a_price() -> None:
    """A run says what it lacks."""

    def train(*_: object, **__: object) -> None:
        raise MissingExtra("no compiler")

    assert not probe._compiled(train, Recipe(), 0.5, torch.device("cpu"))


def test_a_machine_has_a_rate_for_every_unit() -> None:
    """The scorer's own options are taken."""
    rates = probe.probe_machine(CPU, "mlp", {"width": 8, "steps": 300})

    assert {"select", "scorer", "predict", "step", "bytes", "open", "decoded"} == rates.keys()
    assert all(rate > 0 for rate in rates.values())


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not reset peaks")
def test_a_peak_is_seen_and_forgotten() -> None:
    """200 MB that are given back are in the peak, and not in the next one."""
    release_memory()  # that earlier tests freed would be used again
    before = resident_memory()
    peak = PeakMemory("cpu")
    block = torch.ones(50_000_000)
    del block
    result = peak.bytes
    release_memory()
    after = PeakMemory("cpu").bytes

    assert result is not None
    assert after is not None
    assert result - before > 150e6
    assert result - after > 150e6


def test_there_is_memory() -> None:
    """More than this process holds, and no more than a machine can have."""
    assert resident_memory() < memory_of("cpu") <= 2**60
