"""Intervals and paired differences by hand; runs and levels compared."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from scipy.stats import ttest_1samp

from autosparse.report.compare import (
    Level,
    Setting,
    compare_results,
    compare_settings,
    difference,
    interval,
    predicted,
    study_json,
)
from autosparse.report.schema import Provenance, Report, Result

BASE = Level("irp.rounds", 3, True, {"0.9": {0: 80.0, 1: 82.0, 2: 84.0}, "0.95": {0: 70.0}})
OTHER = Level("irp.rounds", 6, False, {"0.9": {0: 81.0, 1: 83.0, 2: 85.0, 3: 99.0}})


def test_intervals_are_students() -> None:
    """t of 97.5 % at two degrees of freedom is 4.303; the standard error of 80, 82, 84 is 2 / √3."""
    estimate = interval([80.0, 82.0, 84.0])

    assert 82.0 == estimate.mean
    assert pytest.approx(4.3027 * 2 / 3**0.5, rel=1e-4) == estimate.half
    assert "82.0 ± 5.0" == str(estimate)


def test_one_value_has_no_interval() -> None:
    """Nothing is known of its spread."""
    assert (70.0, None) == (interval([70.0]).mean, interval([70.0]).half)
    assert "70.0" == str(interval([70.0]))


def test_differences_are_paired_by_seed() -> None:
    """A point more at every seed they share is exactly one, though the levels spread."""
    estimate = difference(OTHER, BASE, "0.9")

    assert estimate is not None
    assert (1.0, 0.0) == (estimate.mean, estimate.half)
    assert difference(OTHER, BASE, "0.95") is None


def test_json_tells_all_of_it() -> None:
    """Every accuracy by seed, and no difference of the spec's own value."""
    document = study_json([BASE, OTHER], "validation")

    assert ("validation", 0.95) == (document["split"], document["confidence"])
    assert document["levels"][0]["budgets"]["0.9"]["difference"] is None
    assert {"mean": 1.0, "half": 0.0} == document["levels"][1]["budgets"]["0.9"]["difference"]
    assert 99.0 == document["levels"][1]["budgets"]["0.9"]["accuracies"]["3"]


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
def test_an_objective_predicts_accuracy(levels: list[Level], expected: tuple[float, int] | None) -> None:
    """Over at least three scorers that were measured by the same thing."""
    prediction = predicted(levels, "0.9")

    assert (prediction and pytest.approx(prediction[0])) == (expected and expected[0])
    assert (prediction and prediction[1]) == (expected and expected[1])


def result(method: str, seed: int, accuracy: float, budget: str = "0.9") -> Result:
    """One trained network."""
    return Result(
        method, float(budget), seed, 10, 100, 0.9, 1000, accuracy, accuracy, budget, 1000, 1000, 1.0, 1.0, "trained"
    )


def report(*results: Result) -> Report:
    """A run of some results."""
    about = {"schema_version": 1, "run": "r", "spec": "s", "model": "m", "dataset": "d", "method": "a", "seconds": 1.0}
    empty: dict[str, Any] = {field.name: [] for field in fields(Report)}
    empty["provenance"] = Provenance("", "", [0], {}, [])
    empty |= {"steps": {}, "scorer": {}, "cost": {}, "unprunable": {}, "chance": None}
    return replace(Report.of({**empty, **about}), results=results)


def test_only_what_differs_is_told() -> None:
    """By its path; lists and empty sections as a whole, and a dash where a spec has no such value."""
    first = {"model": {"name": "vgg", "width": 8}, "seeds": [0, 1], "irp": {}, "same": 1}
    second = {"model": {"name": "vgg", "width": 16}, "seeds": [0], "irp": {"rounds": 2}, "same": 1}

    assert [
        Setting("model.width", (8, 16)),
        Setting("seeds", ([0, 1], [0])),
        Setting("irp", ({}, "–")),
        Setting("irp.rounds", ("–", 2)),
    ] == compare_settings([first, second])
    assert [] == compare_settings([first, first, first])


def test_gains_are_paired_by_seed_and_tested() -> None:
    """The mean of the differences at each seed, whichever is first; p values are those of all comparisons together."""
    first = report(*(result("a", seed, value) for seed, value in enumerate((50.0, 60.0, 70.0))), result("b", 0, 1.0))
    other = report(
        *(result("a", seed, value) for seed, value in ((2, 72.0), (0, 51.0), (1, 61.5))), result("c", 0, 2.0)
    )
    third = report(*(result("a", seed, value) for seed, value in enumerate((50.5, 60.0, 69.0))))
    (a, b, c) = compare_results([first, other, third])
    raw = [float(ttest_1samp(gains, 0).pvalue) for gains in ((1.0, 1.5, 2.0), (0.5, 0.0, -1.0))]

    assert ["a", "b", "c"] == [row.method for row in (a, b, c)]
    assert [60.0, 61.5] == [actual.mean for actual in a.accuracies[:2] if actual]
    assert a.gains[0] is None
    assert a.gains[1] is not None
    assert a.gains[2] is not None
    assert 1.5 == pytest.approx(a.gains[1].difference.mean)
    assert [2 * raw[0], raw[1]] == pytest.approx([a.gains[1].p, a.gains[2].p])
    assert a.gains[1].is_significant is (2 * raw[0] < 0.05)
    assert ((None, None, None), (None, None, None)) == (b.gains, c.gains)
    assert [True, False] == [actual is not None for actual in b.accuracies[:2]]


def test_one_seed_has_no_p() -> None:
    """Nor have differences that are all the same: there is nothing to test them by."""
    (row,) = compare_results([report(result("a", 0, 50.0)), report(result("a", 0, 55.0))])
    alike = [report(*(result("a", seed, value + seed) for seed in range(3))) for value in (50.0, 51.0)]
    (same,) = compare_results(alike)

    assert row.gains[1] is not None
    assert same.gains[1] is not None
    assert (5.0, None, 1) == (row.gains[1].difference.mean, row.gains[1].p, row.gains[1].seeds)
    assert (1.0, None, 3) == (same.gains[1].difference.mean, same.gains[1].p, same.gains[1].seeds)
