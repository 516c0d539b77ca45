"""The ETA on simulated runs, whose steps take other times than the plan estimates."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence

import pytest

from autosparse.backends import Event, Placement
from autosparse.console.eta import Eta, rounded
from autosparse.cost.fitted import Fitted
from autosparse.cost.price import Estimate, Price
from autosparse.execute import Failed, Finished, Progress, Started, Waiting
from autosparse.planning.graph import urgency
from autosparse.planning.model import Plan
from autosparse.planning.status import Status
from tests.plans import DIGITS, compiled

SECONDS = {
    "data": 0.5, "init": 0.1, "irp": 20.0, "trial": 8.0, "tune": 0.1, "scorer": 3.0, "mask": 2.0, "train": 15.0,
    "evaluate": 0.3, "sanity": 16.0, "emit": 0.5,
}  # fmt: skip
TICKS = 20  # progress events of a step

Timed = list[tuple[float, Event]]


@pytest.fixture(scope="module")
def plan() -> Plan:
    """A plan of every kind of step."""
    return compiled(DIGITS)


def seconds_of(plan: Plan, shape: str) -> dict[str, float]:
    """The estimates of a plan: as usual, with most of its work at the end, or with little work at first."""
    seconds = {name: SECONDS.get(step.operation, 1.0) for name, step in plan.steps.items()}
    if shape == "long last step":
        last = [name for name, step in plan.steps.items() if step.operation == "train"][-1]
        seconds[last] = 0.4 * sum(seconds.values())
    if shape == "cheap first steps":
        seconds |= {
            name: 0.05 * seconds[name] for name, step in plan.steps.items() if step.purpose in ("source", "scorer")
        }
    return seconds


def planned(plan: Plan, seconds: dict[str, float], *reused: str, workers: int = 1) -> Fitted:
    """A plan with these estimates."""
    by_step = {name: Status("reuse" if name in reused else "run", "") for name in plan.steps}
    estimates = {name: Estimate(value, 1, 0, "probe") for name, value in seconds.items()}
    return Fitted(plan, by_step, Price(estimates, 2.0, 0, None), Placement("cpu", 1), 1, workers=workers)


def simulated(
    plan: Plan, true: dict[str, float], workers: int, slower: Callable[[float], float] = lambda now: 1.0
) -> Timed:
    """The events of a run in which each step takes its `true` seconds, times `slower` at each moment."""
    urgent, order = urgency(plan.steps.values(), true), [*plan.steps]
    left, done, events = [*plan.steps.values()], set[str](), list[tuple[float, Event]]()
    running: list[tuple[float, str]] = []
    now = 0.02 * sum(true.values()) / workers  # processes start
    while left or running:
        ready = [step for step in left if done.issuperset(step.inputs.values())]
        ready.sort(key=lambda step: order.index(step.name) if workers == 1 else -urgent[step.name])
        for step in ready[: workers - len(running)]:
            left.remove(step)
            events.append((now, Started(step.name)))
            end, ticks = now, TICKS if step.operation in ("irp", "train", "trial", "sanity") else 1
            for tick in range(1, ticks + 1):
                end += true[step.name] / ticks * slower(end)
                events.append((end, Progress(step.name, tick, ticks) if ticks > 1 else Started(step.name)))
            events[-1:] = [] if ticks == 1 else events[-1:]
            events.append((end, Finished(step.name, "run", end - now, {})))
            heapq.heappush(running, (end, step.name))
        now, name = heapq.heappop(running)
        done.add(name)
    return sorted(events, key=lambda event: event[0])


def shown(fitted: Fitted, events: Timed, points: int = 60) -> Iterator[tuple[float, float | None, float]]:
    """Yield the share of a run that is over, the ETA and the true seconds left, as it goes."""
    now = [0.0]
    eta = Eta(fitted, lambda: now[0])
    end = events[-1][0]
    moments = [(end * point / points, None) for point in range(1, points)]
    for moment, event in sorted([*moments, *events], key=lambda one: one[0]):
        now[0] = moment
        if event is not None:
            eta.on_event(event)
        else:
            yield moment / end, eta.seconds, end - moment


def factor(one: float, other: float) -> float:
    """The quotient of two durations, at least 1."""
    return math.exp(abs(math.log(max(1e-9, one) / other)))


SHAPES = ("usual", "long last step", "cheap first steps")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("speed", [1 / 20, 1.0, 20.0])
def test_after_a_quarter_it_is_right_within_a_factor_of_two(plan: Plan, shape: str, workers: int, speed: float) -> None:
    """A machine much faster or slower than estimated, on which kinds of steps differ by up to 1.4 from the rest."""
    draw = random.Random(f"{shape} {workers} {speed}")
    seconds = seconds_of(plan, shape)
    kinds = {operation: math.exp(draw.uniform(-0.35, 0.35)) for operation in sorted(SECONDS)}
    true = {
        name: value * speed * kinds.get(plan.steps[name].operation, 1.0) * draw.lognormvariate(0, 0.1)
        for name, value in seconds.items()
    }
    fitted = planned(plan, seconds, workers=workers)
    values = [*shown(fitted, simulated(plan, true, workers))]

    assert all(eta is not None and factor(eta, left) < 2 for share, eta, left in values if 0.25 <= share < 0.95)
    assert all(eta is None or factor(eta, left) < 4 for share, eta, left in values if share < 0.25)
    assert all(eta is not None and abs(eta - left) < 0.05 * left / (1 - share) for share, eta, left in values[-3:])


@pytest.mark.parametrize("workers", [1, 4])
def test_it_never_jumps(plan: Plan, workers: int) -> None:
    """On a steady machine the end that it announces moves by less than a quarter of the time left at once."""
    draw = random.Random(workers)
    seconds = seconds_of(plan, "usual")
    true = {name: 7 * value * draw.lognormvariate(0, 0.2) for name, value in seconds.items()}
    values = [*shown(planned(plan, seconds, workers=workers), simulated(plan, true, workers), points=200)]
    known = [(eta, left) for share, eta, left in values if eta is not None and share < 0.95]
    passed = values[0][2] - values[1][2]

    assert len(known) > 150
    for (before, _), (after, _) in itertools.pairwise(known):
        assert factor(after, before - passed) < 1.25


@pytest.mark.parametrize("workers", [1, 4])
def test_it_follows_a_machine_that_becomes_busy(plan: Plan, workers: int) -> None:
    """Soon after other processes take two thirds of the machine, the ETA counts on it for the rest."""
    seconds = seconds_of(plan, "usual")
    half = sum(seconds.values()) / 2 / workers
    events = simulated(plan, seconds, workers, lambda now: 1.0 if now < half else 3.0)
    values = [*shown(planned(plan, seconds, workers=workers), events)]
    later = [(eta, left) for share, eta, left in values if share * events[-1][0] > 1.5 * half]

    assert len(later) > 20
    assert all(eta is not None and factor(eta, left) < 1.5 for eta, left in later)


def replayed(fitted: Fitted, steps: Sequence[tuple[Event, float]]) -> Eta:
    """The ETA after events, each followed by seconds."""
    now = [0.0]
    eta = Eta(fitted, lambda: now[0])
    for event, passed in steps:
        eta.on_event(event)
        now[0] += passed
    return eta


def test_it_is_unknown_until_a_step_shows_the_speed(plan: Plan) -> None:
    """Before anything is observed, and as long as small steps alone are finished."""
    fitted = planned(plan, seconds_of(plan, "usual"))
    first = replayed(fitted, [(Started("data/digits"), 1.0), (Finished("data/digits", "run", 1.0, {}), 0.0)])

    assert "ETA unknown" == Eta(fitted).text
    assert "ETA unknown" == first.text


def test_reused_failed_and_skipped_steps_are_not_left(plan: Plan) -> None:
    """What another process makes, fails, or is skipped takes no time; the rest does."""
    seconds = dict.fromkeys(plan.steps, 10.0)
    names = [name for name in plan.steps if name.startswith("irp/")]
    others = [name for name in plan.steps if not name.startswith(("irp/", "train/", "data"))]
    trained = len(plan.steps) - len(names) - len(others) - 1
    finished = [(event, passed) for name in names for event, passed in made(name, 10.0)]
    eta = replayed(
        planned(plan, seconds, "data/digits"),
        [
            (Finished("data/digits", "reuse", 0.0, {}), 0.0),
            *finished,
            (Waiting(others[0]), 0.0),
            (Finished(others[0], "reuse", 0.0, {}), 0.0),
            (Failed(others[1], "odd", others[2:]), 0.0),
        ],
    )

    assert eta.seconds is not None
    assert factor(eta.seconds, 10.0 * trained) < 1.2


def made(name: str, seconds: float) -> list[tuple[Event, float]]:
    """The events of one step."""
    return [(Started(name), seconds), (Finished(name, "run", seconds, {}), 0.0)]


def test_a_training_from_a_later_epoch_has_done_nothing_before(plan: Plan) -> None:
    """Its first event counts the epochs that it skips: they took no time."""
    name = "train/erk/0.9/seed0"
    progress = [(Progress(name, epoch, 20), 5.0) for epoch in (11, 12, 13, 14)]
    eta = replayed(planned(plan, dict.fromkeys(plan.steps, 50.0)), [(Started(name), 5.0), *progress])

    assert eta.step_left(name) == pytest.approx(25.0, rel=0.2)  # five of its ten epochs


def test_a_step_that_waits_for_a_rebuild_begins_afterwards(plan: Plan) -> None:
    """The time of a rebuilt input does not count for the step."""
    name = "train/erk/0.9/seed0"
    source = plan.steps[name].inputs["init"]
    rebuilt = [(Started(name), 1.0), *made(source, 500.0), (Progress(name, 1, 10), 0.0)]
    rates: list[tuple[Event, float]] = [(Progress(name, epoch, 10), 2.0) for epoch in range(2, 6)]
    eta = replayed(planned(plan, dict.fromkeys(plan.steps, 20.0)), [*rebuilt, *rates])
    left = eta.step_left(name)

    assert left is not None
    assert left < 20


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (17.3, "18 s"), (64.0, "65 s"), (203.0, "3 min 30 s"), (3000, "50 min"), (7300, "2 h"),
     (40_000, "11 h"), (2e6, "23 days")],
)  # fmt: skip
def test_it_is_rounded(seconds: float, words: str) -> None:
    """To about a tenth."""
    assert words == rounded(seconds)
