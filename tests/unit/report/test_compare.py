"""Intervals and paired differences by hand; runs and levels compared."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from typing import Any

import pytest
from scipy.stats import ttest_1samp

from autosparse.report.compare import (
    Level,
    Setting,
    alone,
    compare_results,
    compare_settings,
    gain_over,
    interval_of,
    predicted,
    study_json,
)
from autosparse.report.schema import Provenance, Report, Result

IMAGES = 1_000_000  # so many that the seeds are all the noise
BASE = Level("irp.rounds", 3, True, {"0.9": {0: 80.0, 1: 82.0, 2: 84.0}, "0.95": {0: 70.0}}, images=10_000)
OTHER = Level("irp.rounds", 6, False, {"0.9": {0: 81.0, 1: 83.0, 2: 85.0, 3: 99.0}}, images=10_000)


def test_a_level_has_an_interval() -> None:
    """Student's over seeds, that of the images for one seed, and at least that for any number."""
    several, one = interval_of(BASE, "0.9"), interval_of(BASE, "0.95")
    equal = interval_of(replace(BASE, accuracies={"0.9": {0: 100.0, 1: 100.0}}, images=17), "0.9")

    assert "82.0 [77.0, 87.0]" == str(several)
    assert "70.0 [69.1, 70.9]" == str(one)
    assert "100.0 [81.6, 100.0]" == str(equal)
    assert interval_of(BASE, "0.5") is None


def test_differences_are_paired_by_seed() -> None:
    """A point more at every seed they share is one point, though the levels spread; the images are its noise."""
    estimate = gain_over(OTHER, BASE, "0.9")

    assert estimate is not None
    assert "+1.0 [−0.1, +2.1]" == str(estimate)
    assert 3 == estimate.seeds
    assert gain_over(OTHER, BASE, "0.95") is None


@pytest.mark.parametrize("status", ["at chance", "collapsed"])
def test_levels_without_a_trained_network_are_not_compared(status: str) -> None:
    """Neither as a level nor as the base; a trained seed next to them counts."""
    lost = replace(OTHER, statuses={"0.9": dict.fromkeys(range(4), status)})
    part = replace(OTHER, statuses={"0.9": {0: status, 3: status}})

    assert gain_over(lost, BASE, "0.9") is None
    assert gain_over(BASE, lost, "0.9") is None
    gain = gain_over(part, BASE, "0.9")
    assert gain is not None
    assert 2 == gain.seeds


def test_json_tells_all_of_it() -> None:
    """Every accuracy by seed, and no difference of the spec's own value."""
    document = study_json([BASE, OTHER], "validation")
    first, second = (level["budgets"]["0.9"] for level in document["levels"])

    assert ("validation", 0.95) == (document["split"], document["confidence"])
    assert first["difference"] is None
    assert {"mean", "low", "high", "p", "seeds"} == second["difference"].keys()
    assert (82.0, 1.0) == (first["mean"], second["difference"]["mean"])
    assert first["low"] < 82.0 < first["high"]
    assert 99.0 == second["accuracies"]["3"]


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
        method, float(budget), seed, 10, 100, 0.9, 1000, accuracy, accuracy, budget, 1000, 1000, 1.0, 1.0, "trained",
        accuracy - 1, accuracy + 1,
    )  # fmt: skip


def report(*results: Result) -> Report:
    """A run of some results."""
    about = {"schema_version": 1, "run": "r", "spec": "s", "model": "m", "dataset": "d", "method": "a", "seconds": 1.0}
    required = (field.name for field in fields(Report) if field.default is field.default_factory is MISSING)
    empty: dict[str, Any] = {name: [] for name in required}
    empty["provenance"] = Provenance("", "", [0], {}, [])
    empty |= {"steps": {"run": 0, "reuse": 0, "resume": 0}, "scorer": {}, "cost": {}, "unprunable": {}, "chance": 10.0}
    empty |= {"test_images": IMAGES, "validation_images": IMAGES}
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
    assert 1.5 == pytest.approx(a.gains[1].mean)
    assert [2 * raw[0], raw[1]] == pytest.approx([a.gains[1].p, a.gains[2].p])
    assert a.gains[1].is_significant is (2 * raw[0] < 0.05)
    assert ((None, None, None), (None, None, None)) == (b.gains, c.gains)
    assert [True, False] == [actual is not None for actual in b.accuracies[:2]]


def test_budgets_of_one_run_are_left_out() -> None:
    """Runs are compared at budgets that several have; the others are named, and count in no correction."""
    first = report(*(result("a", 0, 50.0, budget) for budget in ("0.8", "0.9")), result("dense", 0, 90.0, "0.8"))
    second = report(*(result("a", 0, 51.0, budget) for budget in ("0.9", "0.95")), result("dense", 0, 90.0, "0.95"))
    third = report(result("b", 0, 51.0, "0.95"))

    assert {"0.8": 0, "0.95": 1} == alone([first, second])
    assert {("a", "0.9"), ("dense", "0.8"), ("dense", "0.95")} == {
        (row.method, row.budget) for row in compare_results([first, second])
    }
    assert {"0.8": 0} == alone([first, second, third])
    assert {} == alone([first, first])


def test_one_seed_is_tested_by_its_images() -> None:
    """And so are differences that are the same at all seeds; on few images they prove nothing."""
    one = [report(result("a", 0, 50.0)), report(result("a", 0, 55.0))]
    alike = [report(*(result("a", seed, value + seed) for seed in range(3))) for value in (50.0, 51.0)]
    for reports, mean, seeds in ((one, 5.0, 1), (alike, 1.0, 3)):
        few = [replace(each, test_images=100) for each in reports]
        (row,), (small,) = compare_results(reports), compare_results(few)
        gain, unsure = row.gains[1], small.gains[1]

        assert gain is not None
        assert unsure is not None
        assert (mean, seeds) == (gain.mean, gain.seeds)
        assert gain.is_significant
        assert not unsure.is_significant
        assert unsure.low < 0 < unsure.high


def test_networks_that_have_not_learned_are_not_compared() -> None:
    """They have no gain, are no reference, and add no comparison to Holm's correction."""
    first = report(*(result("a", seed, 50.0 + seed) for seed in range(3)))
    useless = replace(first, results=[replace(one, status="at chance") for one in first.results])
    other = report(*(result("a", seed, 51.0 + 1.5 * seed) for seed in range(3)))
    (row,) = compare_results([first, useless, other])
    (alone,) = compare_results([first, other])

    assert row.gains[1] is None
    assert "at chance" == row.statuses[1]
    assert row.gains[2] == alone.gains[1]
    assert compare_results([useless, other])[0].gains == (None, None)
