"""The speed of this machine with the networks of a plan: training against a standard PyTorch loop, and scoring."""

from __future__ import annotations

import json
import math
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

from autosparse.backends import Placement
from autosparse.core.scorers import groups_of, score_weights, scorers
from autosparse.core.training.loop import Recipe, train
from autosparse.cost.price import Price
from autosparse.errors import MissingRequirement, StepError
from autosparse.lazy_torch import torch
from autosparse.measure.probe import clock, evidence_of, learn_scorer, made_up_images, random_tables
from autosparse.measure.reference_loop import WARM_UP
from autosparse.models import Shape, build_model
from autosparse.models.facts import NetworkFacts
from autosparse.plan.lookup import network_of
from autosparse.plan.model import Plan
from autosparse.spec import Pretrained
from autosparse.user_code import label

_LEAST, _MOST = 4, 400  # steps that count
_MOMENT = 1.5  # seconds that a measurement takes, at least
_SIDE = 2048  # of the matrices whose product shows the peak
_SCORED = 128  # images that a scorer's gradients are taken over
_PAPER = "paper"


@dataclass(frozen=True)
class Trained:
    """Training of one network, images a second in rounds in which it and the plain loop took turns.

    `operations` are floating-point operations a second, two for each multiply-add and three passes of the network
    a step, `share` what of a matrix product's in the same precision.
    """

    model: str
    batch: int
    precision: str
    rates: tuple[float, ...]
    plain: tuple[float, ...]
    operations: float
    share: float

    @property
    def ratio(self) -> float:
        """How many times as fast as the plain loop: the median of the rounds."""
        return statistics.median(rate / plain for rate, plain in zip(self.rates, self.plain, strict=True))


@dataclass(frozen=True)
class Bench:
    """What was measured: operations a second of a matrix product, by precision; trainings; and weights a second that
    scorers score, features and gradients included, by scorer, on `largest`."""

    peaks: Mapping[str, float]
    trained: tuple[Trained, ...]
    largest: str
    scored: Mapping[str, float]


@dataclass(frozen=True)
class _Network:
    """A network of the plan in the batches that it is trained in."""

    step: str
    name: str
    facts: NetworkFacts
    shape: Shape
    classes: int
    build: partial[torch.nn.Module]
    batch: int
    precision: str


class _PlainLoop:
    """A process of its own for the plain loop, as anybody's is: in this one the C library keeps memory that is freed.

    A context manager; `python -m autosparse.measure.reference_loop` answers until it is left.
    """

    def __init__(self, placement: Placement) -> None:
        self._placement = placement

    def __enter__(self) -> Self:
        # In a session of its own: Ctrl-C is told by this one, which ends it with the readers that it began.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "autosparse.measure.reference_loop"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        if os.name == "posix":
            with suppress(ProcessLookupError):  # it has ended
                os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()
        self._process.communicate()

    def rate(self, network: _Network, steps: int, readers: int) -> float:
        """Images a second; raises StepError where the process ends."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        name, options, shape, classes = network.build.args
        request = {
            "name": name,
            "options": options,
            "shape": shape,
            "classes": classes,
            "batch": network.batch,
            "steps": steps,
            "readers": readers,
            "device": self._placement.device,
            "threads": self._placement.threads,
        }
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return float(self._process.stdout.readline())
        except (OSError, ValueError):
            raise StepError(f"the plain loop's process ended with {self._process.wait()}") from None


def measure_speed(plan: Plan, price: Price, placement: Placement, *, rounds: int, say: Callable[[str], None]) -> Bench:
    """Measure the networks of a resolved spec's plan on made-up images: each trained in its own batches, in its own
    precision and in float32, `rounds` times; the spec's scorer and the paper's on the largest of them.

    Raises MissingRequirement while no step's network is known.
    """
    device = torch.device(placement.device)
    networks = [*_networks(plan, price)]
    if not networks:
        raise MissingRequirement("nothing is known of the networks yet", "fetch the spec's images first: see `plan`")
    for network in networks:
        price.network_rates(network.step)  # those of steps that are reused too: it keeps them for plans
    precisions = dict.fromkeys([*(network.precision for network in networks), "float32"])
    with torch.random.fork_rng():
        peaks = {precision: _peak(precision, device) for precision in precisions}
        trained: list[Trained] = []
        with _PlainLoop(placement) as plainly:
            for network in networks:
                say(f"training {network.name} in batches of {network.batch}")
                trained += _compare(network, peaks, device, rounds, plainly)
        largest = max(networks, key=lambda network: network.facts.total)
        scored = {}
        for name, options in _scorers(plan).items():
            say(f"scoring {largest.name} with `{name}`")
            scored[name] = _scoring(name, options, largest, device)
    return Bench(peaks, tuple(trained), largest.name, scored)


def _networks(plan: Plan, price: Price) -> Iterator[_Network]:
    seen = set()
    for work in price.works.values():
        if work.network is None or not work.load.batch:
            continue
        facts, about = network_of(plan, work.network), plan.steps[work.network].options
        if (key := (facts.identity, work.load.batch, work.load.precision)) in seen:
            continue
        seen.add(key)
        reach = plan.steps[work.network].access.get("model", about["model"])
        shape, classes = tuple(about["shape"]), about["classes"]
        build = partial(build_model, reach["name"], reach["options"], shape, classes)
        yield _Network(
            work.network, label(reach["name"]), facts, shape, classes, build, work.load.batch, work.load.precision
        )


def _scorers(plan: Plan) -> dict[str, Mapping[str, Any]]:
    scorer = plan.spec.scorer
    name, options = ("quota", {}) if isinstance(scorer, Pretrained) else (scorer.name, scorer.keyed()["options"])
    return {name: options, _PAPER: {"steps": 1}}


def _compare(
    network: _Network, peaks: Mapping[str, float], device: torch.device, rounds: int, plainly: _PlainLoop
) -> Iterator[Trained]:
    recipe = Recipe(epochs=1, batch=network.batch, precision=network.precision)  # type: ignore[arg-type]
    precisions = dict.fromkeys((network.precision, "float32"))
    tried = {readers: plainly.rate(network, _LEAST, readers) for readers in (0, 2)}
    readers = max(tried, key=tried.__getitem__)
    rates: dict[str, list[float]] = {precision: [] for precision in precisions}
    plain: list[float] = []
    for _ in range(rounds):
        plain.append(plainly.rate(network, _steps([tried[readers], *plain], network.batch), readers))
        for precision, measured in rates.items():
            kept = replace(recipe, precision=precision)  # type: ignore[arg-type]
            measured.append(_training_rate(network, kept, _steps(measured or plain, network.batch), device))
    for precision, measured in rates.items():
        operations = statistics.median(measured) * 6 * network.facts.macs
        yield Trained(
            network.name,
            network.batch,
            precision,
            tuple(measured),
            tuple(plain),
            operations,
            operations / peaks[precision],
        )


def _steps(rates: Sequence[float], batch: int) -> int:
    # As many as take a moment, at the rate that was found last.
    return max(_LEAST, min(_MOST, math.ceil(_MOMENT * rates[-1] / batch)))


def _training_rate(network: _Network, recipe: Recipe, steps: int, device: torch.device) -> float:
    model = network.build().to(device)
    few, images = (
        made_up_images(count * recipe.batch, network.shape, network.classes, device) for count in (WARM_UP, steps)
    )
    train(model, few, recipe, torch.Generator().manual_seed(0))
    seconds = clock(lambda: train(model, images, recipe, torch.Generator().manual_seed(0)), device)
    return len(images) / seconds


def _scoring(name: str, options: Mapping[str, Any], network: _Network, device: torch.device) -> float:
    tables = random_tables(name, options, device)
    state = learn_scorer(name, options, tables, 1)
    predict = partial(scorers[name].facts["predict"], state)
    model = network.build().to(device)
    images = made_up_images(_SCORED, network.shape, network.classes, device)
    evidence = evidence_of(model, images)
    if name == _PAPER:
        # Its 1.2 million multiply-adds a weight would take minutes: on some weights, without the features.
        seconds = clock(lambda: predict(tables), device)
        return sum(map(len, tables.values.values())) / seconds
    seconds = clock(lambda: score_weights(predict, groups_of(name, options), evidence, _SCORED), device)
    return network.facts.total / seconds


def _peak(precision: str, device: torch.device) -> float:
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    left, right = (torch.randn(_SIDE, _SIDE, device=device).to(kind) for _ in range(2))
    return 2 * _SIDE**3 / min(clock(lambda: left @ right, device) for _ in range(5))
