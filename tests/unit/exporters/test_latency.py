"""Speed of an emitted model: ratios within rounds, and the conditions under which they are not shown."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from autosparse.exporters.latency import Patience, Quartiles, Speed, describe_load, judge, measure_speed, quartiles

STEADY = {"emitted": [0.001] * 5, "dense": [0.002] * 5, "torch": [0.006] * 5}


def test_ratios_are_of_one_round() -> None:
    """A machine that becomes slower changes the timings of both sides, and not their ratio."""
    speed = judge({"emitted": [1, 2, 3], "dense": [2, 4, 6], "torch": [8, 16, 24]})

    assert Quartiles(1500, 2000, 2500) == speed.emitted_ms
    assert Quartiles(2, 2, 2) == speed.speedup
    assert Quartiles(4, 4, 4) == speed.runtime_gain
    assert (3, True, "") == (speed.rounds, speed.stable, speed.reason)


@pytest.mark.parametrize(("high", "stable"), [(2.29, True), (2.31, False)])
def test_a_wide_spread_hides_the_effect(high: float, stable: bool) -> None:
    """The interquartile range of a stable ratio is at most 15 % of the median."""
    dense = [2, 2, 2, high, high]
    speed = judge({"emitted": [1.0] * 5, "dense": dense, "torch": dense})

    assert stable is speed.stable
    assert ("" if stable else "the speed-up varied by 16 % between rounds") == speed.reason


def test_a_wide_spread_of_the_runtime_gain_counts_too() -> None:
    """The same rule for both ratios."""
    speed = judge({**STEADY, "torch": [0.002, 0.002, 0.006, 0.006, 0.02]})

    assert not speed.stable
    assert speed.reason.startswith("the runtime gain varied by ")


def test_one_slow_round_is_no_reason() -> None:
    """Medians and quartiles ignore a hiccup."""
    speed = judge({**STEADY, "emitted": [0.001, 0.001, 0.1, 0.001, 0.001]})

    assert speed.stable
    assert speed.speedup is not None
    assert speed.speedup.median == pytest.approx(2)


def test_a_busy_machine_is_named_first() -> None:
    """The load explains the spread."""
    speed = judge({**STEADY, "emitted": [0.001, 0.002, 0.003, 0.004, 0.005]}, "the machine was busy")

    assert (False, "the machine was busy") == (speed.stable, speed.reason)


def test_without_a_dense_network_in_the_runtime_there_is_no_speed_up() -> None:
    """Never a ratio between two runtimes."""
    speed = judge({side: STEADY[side] for side in ("emitted", "torch")})

    assert (None, None, None) == (speed.dense_ms, speed.speedup, speed.runtime_gain)
    assert (False, "the runtime does not open the dense network") == (speed.stable, speed.reason)


def test_eager_mode_has_no_gain_over_itself() -> None:
    """The dense network is timed once."""
    calls: list[str] = []

    def model(name: str) -> object:
        def call(images: torch.Tensor) -> torch.Tensor:
            calls.append(name)
            return images @ torch.ones(64, 64)

        return call

    eager = model("eager")
    speed = measure_speed(model("emitted"), eager, eager, torch.ones(64, 64), patience=Patience(0, 0))  # type: ignore[arg-type]

    assert {"eager", "emitted"} == {*calls}
    assert speed.runtime_gain is None
    assert speed.dense_ms == speed.torch_ms
    assert 5 <= speed.rounds


def test_quartiles_by_hand() -> None:
    """The middle value, and those a quarter from either end."""
    assert Quartiles(2, 3, 4) == quartiles([5, 1, 4, 2, 3])
    assert pytest.approx(2 / 3) == Quartiles(2, 3, 4).spread


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({}, ""),
        ({"waited": 0.04}, ""),
        ({"waited": 0.75}, "the machine was busy: it waited for a processor 75 % of the time"),
        ({"waited": 0.25, "threads": 2}, "the machine was busy: it waited for a processor 25 % of the time"),
        ({"runnable": 9}, "the machine was busy: 9 threads wanted 2 cores"),
        ({"runnable": 9, "cores": 64}, ""),
        ({"runnable": 4, "threads": 4}, ""),
        ({"runnable": 0}, ""),
        ({"runnable": 2, "cores": 1}, "the machine was busy: 2 threads wanted 1 core"),
    ],
)
def test_a_load_is_described(changed: dict[str, int], text: str) -> None:
    """Time without a processor, and more threads than cores."""
    given = {"wall": 1.0, "waited": 0.0, "threads": 1, "runnable": 2, "cores": 2, **changed}

    assert text == describe_load(**given)  # type: ignore[arg-type]


def measured(*stable: bool) -> tuple[list[Speed], object]:
    """The speeds that a function returns one after the other, the last one for ever."""
    speeds = [replace(judge(STEADY), rounds=number, stable=one) for number, one in enumerate(stable)]
    left = [*speeds]
    return speeds, lambda: left.pop(0) if left[1:] else left[0]


def test_an_unstable_measurement_is_repeated() -> None:
    """Until it is stable."""
    speeds, measure = measured(False, True, False)

    assert speeds[1] is Patience(5, 5).measure(measure)  # type: ignore[arg-type]


@pytest.mark.parametrize("patience", [(0, 5), (5, 0)])
def test_patience_is_bounded(patience: tuple[float, float]) -> None:
    """For each model, and for all of a process: then the first measurement counts."""
    speeds, measure = measured(False, False)

    assert speeds[0] is Patience(*patience).measure(measure)  # type: ignore[arg-type]


def test_no_time_is_spent_on_what_cannot_become_stable() -> None:
    """A runtime that does not open the dense network never will."""
    speed = judge({side: STEADY[side] for side in ("emitted", "torch")})
    calls: list[int] = []

    def measure() -> Speed:
        calls.append(1)
        return speed

    assert speed is Patience(5, 5).measure(measure)
    assert [1] == calls
