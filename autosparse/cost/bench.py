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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from autosparse.backends import Placement
from autosparse.core.scorers import groups_of, score_weights, scorers
from autosparse.core.training.loop import train
from autosparse.core.training.recipe import Recipe
from autosparse.cost.price import Price
from autosparse.cost.rates import BUSY
from autosparse.errors import MissingRequirement, StepError
from autosparse.lazy_torch import default_environment, torch
from autosparse.measure.probe import clock, evidence_of, learn_scorer, made_up_images, random_tables
from autosparse.measure.reference_loop import WARM_UP
from autosparse.measure.timing import Timer
from autosparse.models.facts import Network
from autosparse.planning.model import Plan
from autosparse.spec import Pretrained
from autosparse.user_code import label

_LEAST, _MOST = 4, 400  # timed steps
_MOMENT = 1.5  # minimum seconds of a measurement
_SIDE = 2048  # side of the matrices in the peak measurement
_SCORED = 128  # images for a scorer's gradients
_PAPER = "paper"


@dataclass(frozen=True)
class Trained:
    """Training of one network, in images a second, in rounds that alternate with a standard PyTorch loop.

    `operations` a second count three passes of two for each multiply-add; `share` is of a matrix product's peak.
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
        """The speed-up over the standard PyTorch loop: the median of the rounds."""
        return statistics.median(rate / plain for rate, plain in zip(self.rates, self.plain, strict=True))


@dataclass(frozen=True)
class Bench:
    """Operations a second of a matrix product, by precision; trainings; weights a second on `largest`, by scorer."""

    peaks: Mapping[str, float]
    trained: tuple[Trained, ...]
    largest: str
    scored: Mapping[str, float]


@dataclass(frozen=True)
class _Case:
    """A network of the plan, by its `init` step, with the batch size and precision of its training."""

    step: str
    network: Network
    batch: int
    precision: str

    @property
    def name(self) -> str:
        return label(self.network.name)


@contextmanager
def _plain_loop(placement: Placement) -> Iterator[Callable[[_Case, int, int], float]]:
    """Yield a function of a case, steps and readers -> images a second; it raises StepError if the process ends.

    The loop runs in a separate process, as a user's would: in this one the C library keeps freed memory.
    """
    # In a new session: this process handles Ctrl-C, and ends the loop's process with its readers. OpenMP's threads wait
    # as they do by default.
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "autosparse.measure.reference_loop"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=default_environment(),
        text=True,
        start_new_session=True,
    )

    def rate(case: _Case, steps: int, readers: int) -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        network = case.network
        request = {
            "name": network.name, "options": network.options, "shape": network.shape, "classes": network.classes,
            "batch": case.batch, "steps": steps, "readers": readers, "device": placement.device,
            "threads": placement.threads,
        }  # fmt: skip
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            return float(process.stdout.readline())
        except (OSError, ValueError):
            raise StepError(f"the standard loop's process exited with code {process.wait()}") from None

    try:
        yield rate
    finally:
        if os.name == "posix":
            with suppress(ProcessLookupError):  # already ended
                os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.communicate()


def measure_speed(plan: Plan, price: Price, placement: Placement, *, rounds: int, say: Callable[[str], None]) -> Bench:
    """Measure the training of a plan's networks, in their precision and float32, and scorers on the largest network.

    Raises MissingRequirement while no step's network is known.
    """
    device = torch.device(placement.device)
    cases = _cases(plan, price)
    if not cases:
        raise MissingRequirement(
            "the networks are unknown until the images are present", "fetch the spec's images first: see `plan`"
        )
    for case in cases:
        price.network_rates(case.step)  # rates of reused steps too: the store keeps them for plans
    if price.slowdown >= BUSY:
        say(f"this machine is busy, {price.slowdown:.1f} times as slow as when idle: rates are too low, ratios less so")
    precisions = dict.fromkeys([*(case.precision for case in cases), "float32"])
    torch.set_num_threads(placement.threads)  # probes of the plan may have used others
    with torch.random.fork_rng():
        peaks = {precision: _peak(precision, device) for precision in precisions}
        trained: list[Trained] = []
        with _plain_loop(placement) as plainly:
            for case in cases:
                say(f"training {case.name} in batches of {case.batch}")
                trained += _compare(case, peaks, device, rounds, plainly)
        largest = max(cases, key=lambda case: case.network.facts.total)
        scored = {}
        for name, options in _scorers(plan).items():
            say(f"scoring {largest.name} with `{name}`")
            scored[name] = _scoring(name, options, largest.network, device)
    return Bench(peaks, tuple(trained), largest.name, scored)


def _cases(plan: Plan, price: Price) -> list[_Case]:
    cases: dict[tuple[str, int, str], _Case] = {}
    for work in price.works.values():
        if work.network is not None and (batch := work.load.batch):
            case = _Case(work.network, plan.steps[work.network].network, batch, work.load.precision)
            cases.setdefault((case.network.facts.identity, batch, case.precision), case)
    return [*cases.values()]


def _scorers(plan: Plan) -> dict[str, Mapping[str, Any]]:
    scorer = plan.spec.scorer
    name, options = ("quota", {}) if isinstance(scorer, Pretrained) else (scorer.name, scorer.keyed()["options"])
    return {name: options, _PAPER: {"steps": 1}}


def _compare(
    case: _Case,
    peaks: Mapping[str, float],
    device: torch.device,
    rounds: int,
    plainly: Callable[[_Case, int, int], float],
) -> Iterator[Trained]:
    tried = {0: 0.0, 2: 0.0}
    for _ in range(2):  # alternating: the best of two counts
        tried = {readers: max(rate, plainly(case, _LEAST, readers)) for readers, rate in tried.items()}
    readers = max(tried, key=tried.__getitem__)
    rates: dict[str, list[float]] = {precision: [] for precision in (case.precision, "float32")}
    plain: list[float] = []
    for _ in range(rounds):
        plain.append(plainly(case, _steps([tried[readers], *plain], case.batch), readers))
        for precision, measured in rates.items():
            recipe = Recipe(epochs=1, batch=case.batch, precision=precision)  # type: ignore[arg-type]
            steps = _steps(measured or plain, case.batch)
            measured.append(_training_rate(case.network, recipe, steps, device))
    for precision, measured in rates.items():
        operations = statistics.median(measured) * 6 * case.network.facts.macs
        share = operations / peaks[precision]
        yield Trained(case.name, case.batch, precision, tuple(measured), tuple(plain), operations, share)


def _steps(rates: Sequence[float], batch: int) -> int:
    # Enough steps for a measurement of _MOMENT seconds, at the latest rate.
    return max(_LEAST, min(_MOST, math.ceil(_MOMENT * rates[-1] / batch)))


def _training_rate(network: Network, recipe: Recipe, steps: int, device: torch.device) -> float:
    model = network.build().to(device)
    few, images = (
        made_up_images(count * recipe.batch, network.shape, network.classes, device) for count in (WARM_UP, steps)
    )
    train(model, few, recipe, torch.Generator().manual_seed(0))
    seconds = clock(lambda: train(model, images, recipe, torch.Generator().manual_seed(0)), device)
    return len(images) / seconds


def _scoring(name: str, options: Mapping[str, Any], network: Network, device: torch.device) -> float:
    tables = random_tables(name, options, device)
    state = learn_scorer(name, options, tables, 1)
    predict = partial(scorers[name].facts["predict"], state)
    if name == _PAPER:
        # Its 1.2 million multiply-adds per weight would take minutes: measure some weights, without the features.
        return sum(map(len, tables.values.values())) / Timer(device).least(lambda: predict(tables), _MOMENT)
    images = made_up_images(_SCORED, network.shape, network.classes, device)
    evidence = evidence_of(network.build().to(device), images)
    score = partial(score_weights, predict, groups_of(name, options), evidence, _SCORED)
    seconds = Timer(device).least(score, _MOMENT)
    return network.facts.total / seconds


def _peak(precision: str, device: torch.device) -> float:
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    left, right = (torch.randn(_SIDE, _SIDE, device=device).to(kind) for _ in range(2))
    return 2 * _SIDE**3 / Timer(device).least(lambda: left @ right, _MOMENT / 3)
