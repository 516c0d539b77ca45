"""Probe of a network: speed and memory of each kind of work, measured for a moment on synthetic images.

The probe keeps to a time limit: counted multiply-adds choose the first batch, and work that does not fit is derived
from counted work and the rates that are measured.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import util
from itertools import pairwise
from typing import Any

from autosparse.backends import (
    PeakMemory,
    Placement,
    available_memory,
    memory_of,
    release_memory,
    resident_memory,
    system_load,
)
from autosparse.core.features import Position, Seen, table_layers
from autosparse.core.graph.connectivity import effective
from autosparse.core.images import Images
from autosparse.core.torch_compat.random_state import seeded
from autosparse.core.training.loop import accuracy, train
from autosparse.core.training.recipe import Recipe
from autosparse.core.weights import prunable_weights
from autosparse.errors import AutosparseError, UsageError
from autosparse.lazy_torch import numpy, torch
from autosparse.measure.probe import Measurement, Rates, evidence_of, made_up_images
from autosparse.measure.timing import CLOCKS, Clocks, Timer
from autosparse.models.facts import Network, NetworkFacts

NETWORK_LIMIT = 9.0
"""Maximum wall seconds for the rates of one network, without torch.compile."""

COMPILING_LIMIT = 60.0
"""Wall seconds after which torch.compile is not repeated."""

HASTE = 3.0
"""Slowdown from which passes other than training are derived, and from which torch is not imported for a probe."""

_MOMENT = 0.25  # wall seconds of repetition for each kind of work
_PASS = 0.4  # aimed seconds of one batch
_LONGEST = 1.0  # expected seconds above which a pass is derived
_FIRST = 8  # images of the first batch
_WEIGHTS = 300_000  # weights of a described layer
_LEFT = 0.02  # share of weights in the sparse probe
_GROUPS = ("magnitude", "gradient", "sensitivity", "channels", "layer")
_SEEN, _PAPER = 32, 1.3  # images for which memory is measurable; ratio of real to estimated memory
_ROOM = 0.25  # maximum share of the available memory for activations
_STATES = 5 * 4  # bytes a parameter: weights twice, gradients, momentum and the loaded state

_PASSES = ("train", "forward", "gradient", "flow")
_LITTLE, _PRODUCTS = 64, 1000  # side and number of matrices that NumPy multiplies in one thread
_HALF = 2.0  # speed of bfloat16 over float32, on processors that compute in it
_EXTRA = {"sparse": ("sparse",), "compiled": ("compiled", "compiling")}  # units by kernels
_SIDE, _CUDA_SIDE = 512, 4096  # of the matrices that measure multiply-adds a second
_EFFICIENCY = 0.4  # of a network's training, as a share of a matrix product's multiply-adds a second
_TRAFFIC = 1e10  # bytes a second of passes that are limited by memory
_DRAWN = 2e-8  # seconds to draw a parameter
_UPDATED = 4e-9  # seconds of a parameter in a step: gradients cleared, momentum and weights updated
_CALL = 2e-4  # seconds of a layer's fixed work in a pass
_DESCRIBED = 1e-7  # seconds of a weight's features


def probe_network(
    network: Network,
    batch: int,
    precision: str,
    kernels: str,
    placement: Placement,
    *,
    limit: float = NETWORK_LIMIT,
    clocks: Clocks = CLOCKS,
) -> Measurement:
    """Return rates of one network: trained by dense and other available kernels, evaluated, differentiated, described.

    Takes at most about `limit` wall seconds, with building the network. A network that exceeds the memory here is not
    built: all its rates are derived.
    """
    device = torch.device(placement.device)
    timer = Timer(device, limit, clocks)
    facts = network.facts
    counted = count_rates(facts, _multiply_adds(timer, precision), precision)
    room = memory_of(placement.device)
    room = min(room, available_memory()) if device.type == "cpu" else room
    probe = _Probe(network, precision, timer, room, counted)
    least = _STATES * facts.parameters + 2 * _PAPER * facts.saved_bytes  # a batch of two images
    if least <= room - _ROOM * room and timer.allows(counted["build"]):
        probe.build()
        probe.train(batch)
        if kernels == "sparse":
            probe.sparse(batch)
        elif kernels == "compiled":
            probe.compiled(batch)
        probe.passes()
    return derive(probe.rates, probe.counted, _EXTRA.get(kernels, ()), timer.slowdown)


def count_network(network: Network, precision: str, kernels: str, threads: int, slowdown: float) -> Measurement:
    """Return the rates of a network from its counted work and the speed of NumPy, without importing torch."""
    matrix = numpy.ones((_LITTLE, _LITTLE), numpy.float32)
    begin = time.thread_time()
    for _ in range(_PRODUCTS):
        matrix @ matrix
    speed = _PRODUCTS * _LITTLE**3 / max(1e-9, time.thread_time() - begin)
    speed *= threads * (_HALF if precision == "bfloat16" else 1.0)
    return derive({}, count_rates(network.facts, speed, precision), _EXTRA.get(kernels, ()), slowdown)


def count_rates(facts: NetworkFacts, speed: float, precision: str) -> Rates:
    """Return rates from counted work alone, with `speed` in multiply-adds a second of a matrix product."""
    moved = 4.0 * facts.saved_bytes / _TRAFFIC
    gradient = 3 * facts.macs / (_EFFICIENCY * speed) + moved
    half = 0.5 if precision == "bfloat16" else 1.0
    return {
        "build": _DRAWN * facts.parameters + _CALL * len(facts.layers),
        "train": gradient,
        "forward": gradient / 3,
        "gradient": gradient,
        "flow": 2 * gradient + _CALL * len(facts.layers),
        "features": _DESCRIBED,
        "train_bytes": _PAPER * half * facts.saved_bytes,
        "gradient_bytes": _PAPER * facts.saved_bytes,
        "forward_bytes": 3.0 * facts.live_bytes,
    }


def derive(measured: Rates, counted: Rates, extra: tuple[str, ...] = (), slowdown: float = 1.0) -> Measurement:
    """Complete measured rates by counted ones, scaled by the passes that are measured; `extra` units train too.

    A gradient costs as much as a training image, and a forward pass a third. `compiling` has no derived rate.
    """
    known = next((unit for unit in ("train", "gradient", "forward") if unit in measured), None)
    scale = measured[known] / counted[known] if known else 1.0
    rates = {unit: rate * (scale if unit in _PASSES else 1.0) for unit, rate in counted.items()} | measured
    rates |= {unit: rates["train"] for unit in extra if unit not in rates and unit != "compiling"}
    timed = [unit for unit in (*counted, *extra) if not unit.endswith("_bytes")]
    return Measurement(rates, tuple(unit for unit in timed if unit not in measured), slowdown, system_load())


def _multiply_adds(timer: Timer, precision: str) -> float:
    # Of a matrix product, a second.
    side = _CUDA_SIDE if timer.device.type == "cuda" else _SIDE
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    random = torch.Generator().manual_seed(0)
    left, right = (torch.rand(side, side, generator=random).to(timer.device, kind) for _ in range(2))
    return side**3 / max(1e-9, timer.least(lambda: left @ right, 0.1))


@dataclass
class _Probe:
    """The pieces of a probe, each of which adds its rates while the timer allows it."""

    network: Network
    precision: str
    timer: Timer
    room: float
    counted: Rates
    rates: Rates = field(default_factory=dict)
    model: Any = None

    def images(self, count: float) -> Images:
        """Return synthetic images: at least two, and no more than a part of the memory holds the activations of."""
        held = _PAPER * self.network.facts.saved_bytes or 1
        count = max(2, int(min(count, _ROOM * self.room / held)))
        return made_up_images(count, self.network.shape, self.network.classes, self.timer.device)

    def expected(self, unit: str) -> float:
        """Return the expected seconds of a unit."""
        return derive(self.rates, self.counted).rates[unit]

    def allows(self, unit: str, count: float = 1) -> bool:
        """Return whether the expected seconds of some units fit a pass and the time that is left."""
        seconds = count * self.expected(unit)
        return seconds <= _LONGEST and self.timer.allows(seconds)

    def build(self) -> None:
        """Build the network."""

        def build() -> None:
            with seeded(0):
                self.model = self.network.build()

        self.rates["build"] = self.timer.once(build)
        self.model = self.model.to(self.timer.device)

    def train(self, batch: int) -> None:
        """Time training: a first batch by counted work, then one as large as the time permits."""
        if not self.allows("train", 2):
            return
        first = _FIRST // 2 if self.timer.slowdown >= HASTE else _FIRST
        few = self.images(min(batch, first, _PASS / 2 / self.expected("train")))
        recipe = Recipe(epochs=1, batch=len(few), crop=0, precision=self.precision)  # type: ignore[arg-type]
        random = torch.Generator().manual_seed(0)
        self.rates["train"] = self.timer.once(lambda: train(self.model, few, recipe, random)) / len(few)
        if not self.allows("train", len(few)):
            self._blend()
            return
        again = self.timer.least(lambda: train(self.model, few, recipe, random), 0.1)
        self.rates["train"] = self._at_batch(batch, len(few), again)
        full = self.images(min(batch, self._aimed() / self.rates["train"]))
        if len(full) <= len(few) or not self.allows("train", len(full)):
            return
        epochs = max(1, min(50, int(_MOMENT / self.rates["train"] / len(full))))  # the start of a training is brief
        recipe = replace(recipe, batch=len(full), epochs=epochs)
        seconds, held = self._measured(lambda: train(self.model, full, recipe, random), len(full))
        self.rates["train"] = self._at_batch(batch, len(full), seconds / epochs * len(full))
        if len(full) >= min(batch, _SEEN):
            # Parameters, gradients, momentum and the loaded state are counted elsewhere.
            self.rates["train_bytes"] = max(0.0, held - _STATES * self.network.facts.parameters / len(full))

    def _at_batch(self, batch: int, size: int, step: float) -> float:
        # The seconds an image at a batch size, from a step of another: the update of the weights does not grow with it.
        fixed = min(step / 2, _UPDATED * self.network.facts.parameters)
        return (step - fixed) / size + fixed / max(size, batch)

    def _blend(self) -> None:
        # A single first pass includes the start of torch's kernels: take its geometric mean with the counted work.
        scale = math.sqrt(self.rates.pop("train") / self.counted["train"])
        self.counted = {unit: rate * (scale if unit in _PASSES else 1.0) for unit, rate in self.counted.items()}

    def _aimed(self) -> float:
        # The seconds of a pass: a busy machine gets smaller ones.
        return max(_PASS / 2, _PASS / self.timer.slowdown)

    def sparse(self, batch: int) -> None:
        """Time training by sparse kernels."""
        if not util.find_spec("numba") or "train" not in self.rates or not self.allows("train", 4):
            return
        random = torch.Generator().manual_seed(0)
        masks = {n: torch.rand(w.shape, generator=random) < _LEFT for n, w in prunable_weights(self.model).items()}
        full = self.images(min(batch, self._aimed() / self.rates["train"]))
        recipe = Recipe(epochs=1, batch=len(full), crop=0, precision=self.precision, kernels="sparse")  # type: ignore[arg-type]
        train(self.model, full, recipe, random, masks=masks)  # compiles the kernels
        seconds, held = self._measured(lambda: train(self.model, full, recipe, random, masks=masks), len(full))
        self.rates["sparse"] = seconds
        if "train_bytes" in self.rates:
            held -= _STATES * self.network.facts.parameters / len(full)
            self.rates["train_bytes"] = max(self.rates["train_bytes"], held)  # it saves float32 activations

    def compiled(self, batch: int) -> None:
        """Time training by compiled kernels: seconds to compile with torch's cache filled, and the speed-up."""
        if "train" not in self.rates or self.timer.slowdown >= HASTE:
            return
        full = self.images(min(batch, self._aimed() / self.rates["train"]))
        recipe = Recipe(epochs=4, batch=len(full), crop=0, precision=self.precision)  # type: ignore[arg-type]
        self.rates |= (
            extra := compare_compiled(partial(train, self.model, full), recipe, self.rates["train"], self.timer.device)
        )
        if extra and self.allows("train", batch):  # torch then has the compiled network on disk for the run, too
            real = replace(recipe, batch=batch, epochs=1, kernels="compiled")
            train(self.model, self.images(batch), real, torch.Generator().manual_seed(0))

    def passes(self) -> None:
        """Time forward passes, gradients, passes of ones and feature tables."""
        if self.timer.slowdown >= HASTE:
            return
        facts = self.network.facts
        if self.allows("forward", 2):
            images = self.images(min(256, self._aimed() / self.expected("forward")))
            self._pass("forward", images, lambda: accuracy(self.model, images, self.precision, batch=len(images)))
        if not self.allows("gradient", 2):
            return
        scored = self.images(min(256, self._aimed() / self.expected("gradient")))
        evidence = evidence_of(self.model, scored)
        states = 2 * 4.0 * facts.parameters / len(scored)
        self._pass(
            "gradient", scored, lambda: evidence.gradient(evidence.weights, evidence.draw(len(scored))), states=states
        )
        if self.allows("flow"):
            try:
                self.rates["flow"] = self.timer.least(lambda: effective(evidence), _MOMENT)
            except UsageError:  # its paths cannot be followed, as a run reports; finding out takes about as long
                self.rates["flow"] = self.rates["gradient"]
        small = [layer for layer in evidence.layers if layer.size <= _WEIGHTS] or list(evidence.layers)[:1]
        few = small[len(small) // 2 :][:3]
        weights = sum(layer.size for layer in few)
        there = Position(0, len(few), facts.total)
        seen = [Seen(layer, there, evidence.weights[layer.name], evidence.weights[layer.name]) for layer in few]
        if self.allows("features", weights):
            self.rates["features"] = self.timer.least(lambda: [*table_layers(seen, _GROUPS)], _MOMENT) / weights

    def _pass(self, unit: str, images: Images, work: Callable[[], object], *, states: float = 0.0) -> None:
        self.rates[unit], held = self._measured(work, len(images))
        if len(images) >= _SEEN:
            self.rates[f"{unit}_bytes"] = max(0.0, held - states)

    def _measured(self, work: Callable[[], object], images: int) -> tuple[float, float]:
        # Idle seconds and bytes of memory an image.
        release_memory()
        device = self.timer.device
        before = torch.cuda.memory_allocated(device) if device.type == "cuda" else resident_memory()
        peak = PeakMemory(str(device))
        seconds = self.timer.least(work, _MOMENT)
        held = (peak.bytes or before) - before
        return seconds / images, max(0.0, held) / images


def compare_compiled(
    train: Callable[..., object], recipe: Recipe, dense: float, device: torch.device, limit: float = COMPILING_LIMIT
) -> Rates:
    """Return the rates of compiled kernels, from whole epochs after the first, alternating with the dense kernels.

    `dense` is the seconds an image of these; the limit in seconds ends the repeats. Empty without a compiler.
    """
    epochs, steps, start = max(4, int(recipe.epochs)), dict[str, float](), time.perf_counter()

    def epoch(kernels: str) -> float:
        begin, ends = time.perf_counter(), list[float]()

        def observe(*_: object) -> None:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            ends.append(time.perf_counter())

        train(replace(recipe, epochs=epochs, kernels=kernels), torch.Generator(), observe=observe)  # type: ignore[arg-type]
        step = min(b - a for a, b in pairwise(ends))
        steps[kernels] = min(step, steps.get(kernels, step))
        return max(0.0, ends[0] - begin - step)

    try:
        seconds = [epoch("compiled")]  # without torch's cache: an upper bound
    except AutosparseError:
        return {}
    epoch("dense")
    for repeat in range(2):
        if time.perf_counter() - start > limit:
            break
        if repeat:
            epoch("dense")
        seconds.append(epoch("compiled"))
    return {"compiled": dense * steps["compiled"] / steps["dense"], "compiling": min(seconds)}
