"""The probe measures what the training loop, the criteria and the store really do."""

from __future__ import annotations

import sys

import pytest
import torch

from autosparse.backends import PeakMemory, Placement, memory_of, release_memory, resident_memory
from autosparse.measure import probe

CPU = Placement("cpu", 1)


def test_a_machine_has_a_rate_for_every_unit() -> None:
    """The scorer's own options are taken."""
    made = probe.probe_machine(CPU, "mlp", {"width": 8, "steps": 300}, limit=60.0)
    rates = made.rates

    assert () == made.derived
    assert {"select", "scorer", "predict", "step", "bytes", "open", "decoded", "seconds"} == rates.keys()
    assert all(rate > 0 for rate in rates.values())


def test_a_machine_that_is_too_slow_has_usual_rates() -> None:
    """After the deadline nothing is measured; every unit has a rate, and is marked."""
    made = probe.probe_machine(CPU, "mlp", {"width": 8, "steps": 300}, limit=0.0)

    assert ("step", "select", "scorer", "predict", "bytes") == made.derived
    assert all(rate > 0 for rate in made.rates.values())


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
