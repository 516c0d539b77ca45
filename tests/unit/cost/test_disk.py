"""The free disk space that a plan needs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from autosparse.backends import Placement
from autosparse.cost.disk import Volume, check_disk, volume_of
from autosparse.cost.fitted import Fitted, plan_json
from autosparse.cost.price import Estimate, Price
from autosparse.errors import FitError
from autosparse.planning.status import Status
from autosparse.store import Store
from tests.plans import DIGITS, compiled

MB = 1_000_000


def fitted(*, reused: bool = False, kind: str = "") -> Fitted:
    """The digits plan, whose steps leave a megabyte each."""
    plan = compiled(DIGITS)
    by_step = {name: Status("reuse" if reused else "run", kind) for name in plan.steps}
    prices = dict.fromkeys(plan.steps, Estimate(1.0, 1, MB, "probe"))
    return Fitted(plan, by_step, Price(prices, 2.0, 0, None), Placement("cpu", 1), 1)


def disk(
    free: int = 10**15, out: int | None = None, files: float = math.inf, *, is_writable: bool = True
) -> Callable[[Path], Volume]:
    """A disk for the cache, and another for run folders if `out` is its free space."""

    def volume(folder: Path) -> Volume:
        if folder.name == "cache" or out is None:
            return Volume(1, free, files, is_writable)
        return Volume(2, out, math.inf, True)

    return volume


@pytest.fixture
def cache(tmp_path: Path) -> Store:
    """A store in a folder that does not exist."""
    return Store(tmp_path / "cache")


STEPS = len(compiled(DIGITS).steps)
EMITTED = len(compiled(DIGITS).of("emit"))


@pytest.mark.parametrize(
    ("volume", "refused", "noted"),
    [
        (disk(10 * STEPS * MB), "", ""),
        (disk((STEPS - 1) * MB), "new artifacts and the copies of emitted models", ""),
        (disk((STEPS + EMITTED + 1) * MB), "", "new artifacts and the copies"),
        (disk((STEPS + EMITTED - 1) * MB), "copies of emitted models take about", ""),
        (disk((STEPS - 1) * MB, 10**15), "new artifacts take about", ""),
        (disk(10**15, (EMITTED - 1) * MB), "copies of emitted models take about", ""),
        (disk(10**15, EMITTED * MB), "", "copies of emitted models take about"),
        (disk(files=100), "new artifacts are about", ""),
        (disk(0, is_writable=False), "", "is not writable"),
    ],
)
def test_a_plan_that_exceeds_the_disk_is_refused(
    cache: Store, volume: Callable[[Path], Volume], refused: str, noted: str
) -> None:
    """With the sizes and a remedy, and with a note from four fifths of the disk on."""
    checked = check_disk(fitted(), cache, Path("runs"), volume)

    assert (checked.problem is not None) == bool(refused)
    assert len(checked.notes) == bool(noted)
    assert noted in "".join(checked.notes)
    if checked.problem:
        assert isinstance(checked.problem, FitError)
        assert refused in checked.problem.message
        assert "--out" in str(checked.problem.hint) or "AUTOSPARSE_CACHE_DIR" in str(checked.problem.hint)


def test_reused_steps_take_no_space_unless_they_are_fetched(cache: Store) -> None:
    """A plan with nothing to run fits any disk; artifacts of the shared store need room here."""
    some, first = fitted(kind="in the shared store"), next(iter(compiled(DIGITS).steps))
    by_step = {name: replace(one, status="run" if name == first else "reuse") for name, one in some.statuses.items()}
    shared = replace(some, statuses=by_step)

    assert check_disk(fitted(reused=True), cache, Path("runs"), disk(0)).problem is None
    assert check_disk(shared, cache, Path("runs"), disk(2 * MB)).problem is not None


def test_an_earlier_problem_stays(cache: Store) -> None:
    """Memory is named before the disk."""
    problem = FitError("memory")

    assert problem is check_disk(replace(fitted(), problem=problem), cache, Path("runs"), disk(0)).problem


def test_the_free_space_is_in_the_json(cache: Store) -> None:
    """As `disk_free_bytes`, next to the bytes that the plan needs."""
    checked = check_disk(fitted(), cache, Path("runs"), disk(123 * MB * STEPS))

    assert 123 * MB * STEPS == plan_json(checked)["summary"]["disk_free_bytes"]


def test_a_missing_folder_is_on_the_disk_of_its_parent(tmp_path: Path) -> None:
    """The cache of a new user does not exist before the first run."""
    assert volume_of(tmp_path).device == volume_of(tmp_path / "a" / "b").device
    assert volume_of(tmp_path / "a" / "b").free > 0
