"""Intervals and paired differences by hand."""

from __future__ import annotations

import pytest

from autosparse.report import Level, difference, foretold, interval, study_json

BASE = Level("irp.rounds", 3, True, {"0.9": {0: 80.0, 1: 82.0, 2: 84.0}, "0.95": {0: 70.0}})
OTHER = Level("irp.rounds", 6, False, {"0.9": {0: 81.0, 1: 83.0, 2: 85.0, 3: 99.0}})


def test_intervals_are_students() -> None:
    """t of 97.5 % at two degrees of freedom is 4.303; the standard error of 80, 82, 84 is 2 / √3."""
    found = interval([80.0, 82.0, 84.0])

    assert 82.0 == found.mean
    assert pytest.approx(4.3027 * 2 / 3**0.5, rel=1e-4) == found.half
    assert "82.0 ± 5.0" == str(found)


def test_one_value_has_no_interval() -> None:
    """Nothing is known of its spread."""
    assert (70.0, None) == (interval([70.0]).mean, interval([70.0]).half)
    assert "70.0" == str(interval([70.0]))


def test_differences_are_paired_by_seed() -> None:
    """A point more at every seed they share is exactly one, though the levels spread."""
    found = difference(OTHER, BASE, "0.9")

    assert found is not None
    assert (1.0, 0.0) == (found.mean, found.half)
    assert difference(OTHER, BASE, "0.95") is None


def test_json_tells_all_of_it() -> None:
    """Every accuracy by seed, and no difference of the spec's own value."""
    found = study_json([BASE, OTHER], "validation")

    assert ("validation", 0.95) == (found["split"], found["confidence"])
    assert found["levels"][0]["budgets"]["0.9"]["difference"] is None
    assert {"mean": 1.0, "half": 0.0} == found["levels"][1]["budgets"]["0.9"]["difference"]
    assert 99.0 == found["levels"][1]["budgets"]["0.9"]["accuracies"]["3"]


def tuned(objective: float | None, accuracy: float, measured: str = "rank") -> Level:
    """A level whose scorer came to an objective, and whose networks to an accuracy."""
    return Level("scorer.width", 8, False, {"0.9": {0: accuracy}}, objective, measured)


THREE = [tuned(0.5, 70.0), tuned(0.6, 72.0), tuned(0.7, 71.0)]


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        pytest.param(THREE, (0.5, 3), id="1 - 6 * 2 / 24"),
        pytest.param([*THREE, THREE[0], tuned(None, 99.0)], (0.5, 3), id="the same scorer counts once, and none not"),
        pytest.param(THREE[:2], None, id="two tell nothing"),
        pytest.param([tuned(each, 70.0) for each in (0.5, 0.6, 0.7)], None, id="equal accuracies"),
        pytest.param([*THREE, tuned(0.9, 75.0, "precision")], None, id="other objectives"),
    ],
)
def test_how_well_an_objective_foretold_accuracy(levels: list[Level], expected: tuple[float, int] | None) -> None:
    """Over at least three scorers that were measured by the same thing."""
    found = foretold(levels, "0.9")

    assert (found and pytest.approx(found[0])) == (expected and expected[0])
    assert (found and found[1]) == (expected and expected[1])
