"""A run as it goes: a tree on a terminal, lines elsewhere, a log in the run folder."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from autosparse.backends import Placement as Where
from autosparse.console.progress import Lines, Tree
from autosparse.cost.fitted import Fitted
from autosparse.cost.price import Estimate, Price
from autosparse.execute import Everyone, Failed, Finished, Log, Note, Progress, Started, Waiting
from autosparse.planning.status import Status
from tests.plans import DIGITS, compiled

HUGE = "\x1b[2J\u202e[red]名前"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still until it is set."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("autosparse.console.progress.resident_memory", lambda **_: 812_000_000)
    return now


def fitted(*reused: str) -> Fitted:
    """The digits plan, each of whose steps takes ten seconds."""
    plan = compiled(DIGITS)
    by_step = {name: Status("reuse" if name in reused else "run", "") for name in plan.steps}
    return Fitted(
        plan, by_step, Price(dict.fromkeys(plan.steps, Estimate(10.0, 1, 0, "probe")), 2.0, 0, None), Where("cpu", 1), 1
    )


def drawn(tree: Tree, width: int) -> str:
    """Return the drawing of a tree without colours."""
    console = Console(file=io.StringIO(), width=width)
    console.print(tree.drawn())
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def replay(tree: Tree | Everyone | Lines, fitted: Fitted, clock: list[float]) -> None:
    """The middle of a run: rounds and trials are over, a network is half trained, another process makes one."""
    measured: list[tuple[str, dict[str, float]]] = [
        ("data/digits", {}),
        ("init/resnet8/seed0", {}),
        ("init/resnet8/seed100", {}),
        *((f"irp/seed100/round{n}", {"validation_accuracy": 99.0 - n * n / 2, "kept": 5}) for n in range(1, 9)),
        ("label/seed100", {}),
        *((f"trial/{n}", {"value": 0.5 + 0.1 * n * (5 - n)}) for n in range(6)),
        ("tune", {}),
        ("scorer", {}),
        ("mask/learned/0.9/seed0", {}),
        ("train/learned/0.9/seed0", {}),
        ("evaluate/learned/0.9/seed0", {"test_accuracy": 97.25}),
    ]
    for name, metrics in measured:
        tree.on_event(Started(name))
        clock[0] += 5.0
        tree.on_event(Finished(name, "run", 5.0, metrics))
    tree.on_event(Started("train/erk/0.9/seed0"))
    clock[0] += 3.0
    tree.on_event(Progress("train/erk/0.9/seed0", 3, 12, 1.2345))
    tree.on_event(Waiting("train/snip/0.9/seed0"))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_tree_fills_in(clock: list[float], width: int) -> None:
    """Every purpose with the last metrics, running steps and waiting steps; no line is too long."""
    plan = fitted()
    tree = Tree(plan, Console(file=io.StringIO(), width=width))
    replay(tree, plan, clock)
    lines = drawn(tree, width).splitlines()
    whole = "\n".join(lines)

    assert all(len(line) <= width for line in lines)
    assert lines[0].startswith("23 of 106 steps · 1 min 58 s, about 7 min ")  # 83 steps of five seconds
    assert lines[0].endswith("812 MB")
    assert "+ source of labels" in whole
    assert "10/10" in whole
    assert "validation accuracy ██▇▆▅▄▃▁ 67.0" in whole or width < 80
    assert "value ▁▆██▆▁ best 1.1 of 6" in whole
    assert "test accuracy 97.2" in whole
    assert re.search(r"3 of 12, \d s left", whole)
    assert ("loss 1.23" in whole) == (width > 100)
    assert "waiting for another" in whole
    assert re.search(r"^  export +0/3$", whole, re.MULTILINE)


@pytest.mark.parametrize("width", [60, 120])
def test_a_failed_step_is_marked_and_its_time_is_gone(
    clock: list[float], capsys: pytest.CaptureFixture[str], width: int
) -> None:
    """Its purpose shows `x` unless another step of it runs; the ETA leaves skipped steps out."""
    plan = fitted()
    steps, console = plan.plan.steps, Console(file=io.StringIO(), width=width)
    tree, lines = Tree(plan, console), Lines(plan)
    skipped = [name for name in steps if name.startswith(("evaluate/erk", "train/erk", "mask/erk"))][1:]
    first = [name for name in steps if not name.startswith(("evaluate/erk", "train/erk", "mask/erk"))][:6]
    for observer in (tree, lines):
        for name in first:
            observer.on_event(Started(name))
            clock[0] += 5.0
            observer.on_event(Finished(name, "run", 10.0, {}))
        observer.on_event(Started("mask/erk/0.9/seed0"))
        observer.on_event(Failed("mask/erk/0.9/seed0", "step `mask/erk/0.9/seed0` failed: odd", skipped))
    shown = drawn(tree, width)

    assert re.search(r"^x comparison +0/", shown, re.MULTILINE)
    assert "mask/erk" not in shown
    assert shown.startswith(f"6 of {len(steps)} steps")
    assert f"about {10 * (len(steps) - 7 - len(skipped)) // 60} min" in shown.splitlines()[0]
    line = f"note: step `mask/erk/0.9/seed0` failed: odd; {len(skipped)} dependent steps skipped"
    assert line == capsys.readouterr().err.strip().splitlines()[-1]
    assert line in " ".join(str(console.file.getvalue()).split())  # type: ignore[attr-defined]
    tree.on_event(Finished(skipped[0], "run", 1.0, {}))  # a worker had begun it before
    assert re.search(r"^x comparison +1/", drawn(tree, width), re.MULTILINE)


def test_nothing_moves_while_it_fills_in(clock: list[float]) -> None:
    """Tallies stand in one column from the first moment to the last."""
    plan = fitted()
    tree = Tree(plan, Console(file=io.StringIO(), width=80))
    tallies = re.compile(r"^[+> ] [a-z ]+[0-9]+/([0-9]+)", re.MULTILINE)
    begin = [match.end() - match.string.rindex("\n", 0, match.end()) for match in tallies.finditer(drawn(tree, 80))]
    replay(tree, plan, clock)
    after = [match.end() - match.string.rindex("\n", 0, match.end()) for match in tallies.finditer(drawn(tree, 80))]

    assert 5 == len(begin)
    assert begin == after


def test_many_steps_at_once_are_told_in_few_lines(clock: list[float]) -> None:
    """Six, and how many more."""
    plan = fitted()
    tree = Tree(plan, Console(file=io.StringIO(), width=80))
    for step in list(plan.plan.steps.values())[:20]:
        tree.on_event(Started(step.name))

    assert "    and 14 more steps at once" == drawn(tree, 80).splitlines()[-1]


def test_a_plan_that_is_there_is_drawn_too(clock: list[float]) -> None:
    """Nothing is left, nothing is known of time."""
    plan = fitted(*compiled(DIGITS).steps)

    assert drawn(Tree(plan, Console(file=io.StringIO(), width=80)), 80).startswith("0 of 0 steps")


def test_lines_have_times(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """If stderr is not a terminal."""
    plan = fitted()
    replay(Lines(plan), plan, clock)
    lines = capsys.readouterr().err.splitlines()

    assert re.match(r"\d\d:\d\d:\d\d \[1/106\] data/digits  5\.0 s  ETA unknown$", lines[0])
    assert re.search(r"  about 7 min( \d+ s)? left$", lines[-3])
    assert "note: waiting for another process that runs `train/snip/0.9/seed0`" == lines[-1]


def test_a_log_has_what_happened(tmp_path: Path, clock: list[float]) -> None:
    """A line each, with the time, whatever is in a text; how it ended too."""
    plan = fitted()
    with Log(tmp_path / "log.txt") as log:
        replay(Everyone(log), plan, clock)
        log.on_event(Note(f"two\nlines {HUGE}"))
        log.on_event(Failed("tune", "step `tune` failed:\nodd", ["scorer"]))
        log.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    lines = (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()

    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 .", line) for line in lines)
    assert "irp/seed100/round1 finished after 5.00 s, validation_accuracy 98.5, kept 5" in lines[8]
    assert lines[-4].endswith("two lines ?[2J?[red]名前")
    assert lines[-3].endswith("tune fails: step `tune` failed: odd; 1 dependent step skipped")
    assert lines[-2].endswith("run stopped by KeyboardInterrupt:")


def test_a_log_that_cannot_be_written_is_given_up(tmp_path: Path) -> None:
    """A run is not ended by it."""
    with Log(tmp_path / "gone" / "log.txt") as log:
        log.on_event(Note("nothing"))

    assert not (tmp_path / "gone").exists()
