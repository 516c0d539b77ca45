"""The probe of a network keeps to its time and memory: it cuts work, and derives the rates that it cannot measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from autosparse.backends import Placement
from autosparse.core.images import Images
from autosparse.core.training.recipe import Recipe
from autosparse.errors import MissingExtra
from autosparse.measure import network_probe
from autosparse.measure.network_probe import compare_compiled, count_rates, derive, probe_network
from autosparse.measure.probe import made_up_images
from autosparse.measure.timing import Clocks, Timer
from autosparse.models.facts import Network, NetworkFacts

CPU = Placement("cpu", 1)
OPTIONS = {"width": 4}
SMALL = Network({"name": "resnet8", "options": OPTIONS}, "resnet8", OPTIONS, (3, 8, 8), 4)
TIMED = ("build", "train", "forward", "gradient", "flow", "features")


class Unbuilt(Network):
    """A network that must not be built."""

    def build(self) -> torch.nn.Module:
        raise AssertionError("built")


def unbuilt(**facts: Any) -> Network:
    """The small network with other facts; building it fails."""
    network = Unbuilt(SMALL.identity, SMALL.name, SMALL.options, SMALL.shape, SMALL.classes)
    object.__setattr__(network, "facts", replace(SMALL.facts, **facts))
    return network


def busy(share: float, step: float = 1e-2) -> Clocks:
    """Clocks of a machine on which a process gets a share of a core; every look at the wall takes a step."""
    wall = 0.0

    def look() -> float:
        nonlocal wall
        wall += step
        return wall

    return Clocks(look, lambda: share * wall, lambda: (share * wall, (1 - share) * wall))


def test_a_network_is_measured_in_time() -> None:
    """Nothing is derived on an idle machine."""
    made = probe_network(SMALL, 8, "float32", "dense", CPU, clocks=busy(1.0))

    assert () == made.derived
    assert 1.0 == pytest.approx(made.slowdown)


def test_load_is_recorded_and_cuts_work() -> None:
    """A process with a quarter of a core derives all but the training."""
    made = probe_network(SMALL, 8, "float32", "dense", CPU, clocks=busy(0.25))

    assert 4.0 == pytest.approx(made.slowdown, rel=0.1)
    assert ("forward", "gradient", "flow", "features") == made.derived


@pytest.mark.parametrize("limit", [0.0, 1e-4])
def test_after_the_deadline_all_is_derived(limit: float) -> None:
    """The network is not even built."""
    made = probe_network(unbuilt(), 8, "float32", "sparse", CPU, limit=limit, clocks=busy(1.0))

    assert (*TIMED, "sparse") == made.derived
    assert all(made.rates[unit] > 0 for unit in made.derived)


def test_a_network_above_the_memory_is_not_built() -> None:
    """Its rates and memory follow from its counted work."""
    made = probe_network(unbuilt(parameters=10**13), 8, "float32", "dense", CPU, clocks=busy(1.0))

    assert TIMED == made.derived
    assert made.rates["train_bytes"] == pytest.approx(1.3 * SMALL.facts.saved_bytes)


def test_activations_take_a_part_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two images' activations need a quarter of the memory, no batch is larger."""
    sizes: list[int] = []

    def record(count: int, *about: Any) -> Images:
        sizes.append(count)
        return made_up_images(count, *about)

    monkeypatch.setattr(network_probe, "made_up_images", record)
    monkeypatch.setattr(network_probe, "available_memory", lambda: int(8 * 1.3 * SMALL.facts.saved_bytes) + 10**6)
    probe_network(SMALL, 64, "float32", "dense", CPU, clocks=busy(1.0))

    assert sizes
    assert max(sizes) <= 2 + 10**6 / SMALL.facts.saved_bytes


def test_huge_passes_are_derived(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network whose pass would take minutes by its count is built, and nothing else."""
    facts: NetworkFacts = SMALL.facts
    layers = tuple(replace(layer, positions=10**10) for layer in facts.layers)
    network = replace(SMALL)
    object.__setattr__(network, "facts", replace(facts, layers=layers))
    made = probe_network(network, 8, "float32", "dense", CPU, clocks=busy(1.0))

    assert TIMED[1:] == made.derived


def test_derived_rates_follow_the_measured_pass() -> None:
    """A training that is twice as slow as counted makes the other passes twice as slow, and not their memory."""
    counted = count_rates(SMALL.facts, 1e9, "float32")
    made = derive({"train": 2 * counted["train"]}, counted, ("sparse",), 3.0)

    assert ("build", "forward", "gradient", "flow", "features", "sparse") == made.derived
    assert 3.0 == made.slowdown
    assert made.rates["sparse"] == made.rates["train"] == made.rates["gradient"] == 2 * counted["gradient"]
    assert made.rates["forward"] == pytest.approx(made.rates["train"] / 3)
    assert made.rates["train_bytes"] == counted["train_bytes"]
    assert "compiling" not in derive({}, counted, ("compiled", "compiling")).rates


@pytest.mark.parametrize("again", [False, True])
def test_a_single_first_pass_counts_half(monkeypatch: pytest.MonkeyPatch, *, again: bool) -> None:
    """It is slow by the start of torch's kernels; a second pass replaces it, less the update that a batch shares."""
    seconds = iter([8.0, 4.0])
    clock = [0.0]
    timer = Timer(
        torch.device("cpu"), 1000.0 if again else 8.1, Clocks(lambda: clock[0], lambda: clock[0], lambda: (0, 0))
    )

    def take_time(*_: object) -> None:
        clock[0] += next(seconds)

    monkeypatch.setattr(network_probe, "train", take_time)
    monkeypatch.setattr(network_probe, "_LONGEST", 10.0)
    counted = dict.fromkeys(TIMED, 0.25)
    piece = network_probe._Probe(SMALL, "float32", timer, 1e9, counted)
    piece.train(1)
    made = derive(piece.rates, piece.counted)

    assert again == ("train" not in made.derived)
    assert made.rates["train"] == pytest.approx(2.0 if again else (4.0 * 0.25) ** 0.5, rel=1e-3)


def test_the_update_of_the_weights_is_shared_by_a_batch() -> None:
    """A step of 8 images takes 32 s, of which the update takes 16 s: 2 s an image, and 16 s a step."""
    network = unbuilt(parameters=4 * 10**9)
    piece = network_probe._Probe(network, "float32", Timer(torch.device("cpu")), 1e9, {})

    assert pytest.approx(2.0 + 16 / 128) == piece._at_batch(128, 8, 32.0)
    assert pytest.approx(4.0) == piece._at_batch(8, 8, 32.0)
    assert pytest.approx(1.0 + 8 / 128) == piece._at_batch(128, 8, 16.0)  # at most half of a step


def _epochs(seconds: dict[str, Iterator[float]], clock: list[float]) -> Callable[..., None]:
    def train(recipe: Recipe, generator: torch.Generator, observe: Callable[[], None]) -> None:
        for _ in range(int(recipe.epochs)):
            clock[0] += next(seconds[recipe.kernels])
            observe()

    return train


def test_compiling_is_not_repeated_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first compilation is the estimate."""
    clock = [0.0]
    monkeypatch.setattr("autosparse.measure.network_probe.time.perf_counter", lambda: clock[0])
    train = _epochs({"dense": iter([2.0] * 4), "compiled": iter([101.0, 1, 1, 1])}, clock)

    assert {"compiled": 0.25, "compiling": 100.0} == compare_compiled(train, Recipe(epochs=4), 0.5, torch.device("cpu"))


def test_compiled_kernels_are_compared_with_dense_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """By epochs after the first, which compiles; slow ones, of a machine that is busy, count for neither."""
    clock = [0.0]
    monkeypatch.setattr("autosparse.measure.network_probe.time.perf_counter", lambda: clock[0])
    seconds = {"dense": iter([2.0, 2.5, 9.0, 2.0] * 2), "compiled": iter([21.0, 1, 1, 1, 6.0, 1, 5, 1, 5.5, 1, 1, 8])}
    train = _epochs(seconds, clock)
    rates = compare_compiled(train, Recipe(epochs=3), 0.5, torch.device("cpu"))

    assert {"compiled": 0.25, "compiling": 4.5} == rates


def test_a_machine_without_a_compiler_has_a_price() -> None:
    """A run says what it lacks."""

    def train(*_: object, **__: object) -> None:
        raise MissingExtra("no compiler")

    assert not compare_compiled(train, Recipe(), 0.5, torch.device("cpu"))
