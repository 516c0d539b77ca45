"""Samples of the campaign: whatever fails, a command repairs it or ends with one line, and no result changes."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import Ended
from tests.faults import __main__ as campaign
from tests.faults.campaign import KINDS
from tests.faults.commands import References
from tests.faults.judge import Verdict, difference, problem_of
from tests.faults.kinds import Kind, Trial
from tests.faults.stops import failures, kills
from tests.faults.world import World

SAMPLE: dict[str, tuple[Kind, int]] = {
    **{name: (kind, 1) for name, kind in KINDS.items() if name != "spec"},  # those have tests of their own
    "kill": (partial(kills, names=("export",)), 1),
    "fault": (partial(failures, names=("export",)), 1),
}
"""Kinds with the few commands and the number of trials of the default tests."""
SLOW = {"kill": (1, 8), "fault": (1, 12), "flip": (1, 10), "artifact": (1, 14), "code": (1, 12), "spec": (1, 10)}
"""Kind -> slow tests, and trials of each."""


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> References:
    """A finished run of the tiny spec, and what its commands print."""
    return References(World.create(tmp_path_factory.mktemp("faults") / "world"))


def faults_of(trials: Iterator[Trial]) -> list[str]:
    """The failed ones of some trials, with their reproduction."""
    return [f"{trial.text}: {verdict.problem}" for trial in trials if (verdict := trial.judge()).word == "failed"]


@pytest.mark.slow
def test_no_fault_of_a_sample_changes_a_result(known: References) -> None:
    """A few trials of every kind: each is repaired or ends with one line."""
    failed = [
        fault
        for name, (kind, number) in SAMPLE.items()
        for fault in faults_of(islice(kind(known, Random(name)), number))
    ]

    assert not failed, "\n".join(failed)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "part"), [(kind, part) for kind in KINDS for part in range(SLOW[kind][0])])
def test_no_fault_of_a_kind_changes_a_result(known: References, kind: str, part: int) -> None:
    """Many trials of one kind: each is repaired or ends with one line."""
    number = SLOW[kind][1]
    trials = KINDS[kind](known, Random(f"slow {kind}"))
    failed = faults_of(islice(trials, part * number, (part + 1) * number))

    assert not failed, "\n".join(failed)


@pytest.mark.parametrize(
    ("ended", "problem"),
    [
        (Ended(0, "", ""), ""),
        (Ended(4, "", "error: artifact is damaged\nhint: run it again\n"), ""),
        (
            Ended(1, "", 'Traceback (most recent call last):\n  File "x"\nKeyError: 5\n'),
            "traceback, exit code 1: KeyError: 5",
        ),
        (Ended(70, "", "error: a fault of autosparse"), "exit code 70: error: a fault of autosparse"),
        (Ended(5, "", ""), "exit code 5 without an error: "),
        (
            Ended(5, "", "error: the folder None cannot be read"),
            "unreadable error: 'error: the folder None cannot be read'",
        ),
        (Ended(2, "", "error: \x1b[2J"), "unreadable error: 'error: \\x1b[2J'"),
        (Ended(2, "", "error: " + "x" * 2000), "a line of 2,007 characters: error: " + "x" * 73),
        (Ended(-14, "", ""), "hangs"),
        (Ended(-11, "", ""), "killed by signal 11"),
    ],
)
def test_the_judge_accepts_a_result_or_one_line(ended: Ended, problem: str) -> None:
    """Tracebacks, undocumented exit codes, hangs and unreadable messages are faults."""
    assert problem == problem_of(ended)


@pytest.mark.parametrize(
    ("expected", "actual", "text"),
    [
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}, ""),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, ".a.1.b: '3' instead of '2'"),
        ({"a": 1}, {"a": 1, "c": 2}, ".c: '2' instead of 'None'"),
        ([1, 2], [1], ".1: 'None' instead of '2'"),
        (1, True, ": 'True' instead of '1'"),
    ],
)
def test_the_judge_names_the_first_difference(expected: Any, actual: Any, text: str) -> None:
    """The path in the document, and both values."""
    assert text == difference(expected, actual)


def change(folder: str) -> None:
    """Make a folder, write a file in two parts, rename it."""
    path = Path(folder) / "made" / "draft"
    path.parent.mkdir()
    with path.open("wb", buffering=0) as file:
        file.write(b"first ")
        file.write(b"second")
    path.rename(path.with_name("file"))
    raise SystemExit(0)


CHANGES = ["mkdir made", "open to write made/draft", "write made/draft", "write made/draft", "rename made/draft"]


def behind_the_seam(folder: Path, **seam: Any) -> tuple[int, dict[str, bytes]]:
    """The exit code of a process that changes files behind the seam, and the files that it leaves."""
    world = World(folder)
    world.folder.mkdir()
    about = {"folder": str(world.folder)}
    hooks = [
        ("tests.faults.system_calls", "install", {**about, **seam}),
        ("tests.faults.test_campaign", "change", about),
    ]
    ended = world.run(hooks=hooks)
    return ended.code, {path.name: path.read_bytes() for path in world.folder.rglob("*") if path.is_file()}


def test_the_seam_counts_every_change(tmp_path: Path) -> None:
    """The trace lists the changes below the folder, in order."""
    trace = tmp_path / "trace"

    code, files = behind_the_seam(tmp_path, trace=str(trace))

    assert (0, {"file": b"first second"}) == (code, files)
    assert CHANGES == trace.read_text().splitlines()


@pytest.mark.parametrize(
    ("at", "files"),
    [
        (1, {}),
        (2, {"draft": b""}),
        (3, {"draft": b"fir"}),
        (4, {"draft": b"first sec"}),
        (5, {"file": b"first second"}),
    ],
)
def test_the_seam_kills_after_any_change(tmp_path: Path, at: int, files: dict[str, bytes]) -> None:
    """A killed write leaves half of its bytes."""
    assert (-9, files) == behind_the_seam(tmp_path, at=at)


@pytest.mark.parametrize(("at", "files"), [(1, {}), (3, {"draft": b""}), (5, {"draft": b"first second"})])
def test_the_seam_fails_instead_of_any_call(tmp_path: Path, at: int, files: dict[str, bytes]) -> None:
    """A failing call has no effect, and raises its error."""
    assert (1, files) == behind_the_seam(tmp_path, at=at, error=errno.ENOSPC)


def test_a_campaign_goes_on_where_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials that the file holds are skipped; one can be run alone."""

    def toys(known: References, random: Random) -> Iterator[Trial]:
        for number in range(9):
            yield Trial(f"toy {number}", lambda: Verdict("unharmed"))

    def run(done: set[tuple[str, int]], trial: int | None = None) -> list[str]:
        options, nothing = SimpleNamespace(seed=0, trials=5, trial=trial), SimpleNamespace()
        rows: Callable[..., Iterator[dict[str, Any]]] = campaign.trials_of
        return [row["text"] for row in rows(nothing, "toy", options, done)]

    monkeypatch.setitem(KINDS, "toy", toys)

    assert ["toy 2", "toy 4"] == run({("toy", 0), ("toy", 1), ("toy", 3)})
    assert ["toy 7"] == run(set(), trial=7)
