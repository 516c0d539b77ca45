"""Intervals and tests of accuracies: values of the literature, the edges, and properties."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp

from autosparse.report.significance import (
    accuracy_interval,
    counted_difference,
    counting_noise,
    difference,
    holm,
    is_chance,
    mean_interval,
    signed,
)

IMAGES = st.integers(1, 100_000)
PERCENT = st.floats(0, 100)


def percent(right: int, images: int) -> float:
    """The accuracy of some right images."""
    return 100 * right / images


@pytest.mark.parametrize(
    ("right", "images", "low", "high"),
    [(81, 263, 25.53, 36.62), (15, 148, 6.24, 16.05), (0, 20, 0.0, 16.11), (1, 29, 0.61, 17.18)],
)
def test_wilsons_interval_has_published_values(right: int, images: int, low: float, high: float) -> None:
    """Newcombe 1998, Two-sided confidence intervals for the single proportion, Statist. Med. 17, table I, method 3."""
    interval = accuracy_interval(percent(right, images), images)

    assert (low, high) == pytest.approx((interval.low, interval.high), abs=0.006)


@pytest.mark.parametrize(
    ("right", "other", "images", "low", "high"),
    [
        (9, 3, 10, 17.05, 80.90),
        (6, 2, 7, 5.82, 80.62),
        (0, 0, 10, -27.75, 27.75),
        (10, 0, 10, 60.75, 100.0),
    ],
)
def test_newcombes_interval_has_published_values(right: int, other: int, images: int, low: float, high: float) -> None:
    """Newcombe 1998, Interval estimation for the difference, Statist. Med. 17, table II, method 10: equal samples."""
    ends = counted_difference(percent(right, images), percent(other, images), images)

    assert (low, high) == pytest.approx(ends, abs=0.006)


def test_seventeen_right_images_are_no_certainty() -> None:
    """All right: 82 % to 100 %, and two such networks differ by less than 18 points."""
    interval = accuracy_interval(100.0, 17)

    assert (81.57, 100.0) == pytest.approx((interval.low, interval.high), abs=0.01)
    assert [18.43, 18.43] == pytest.approx([counting_noise(100.0, 17), counting_noise(0.0, 17)], abs=0.01)


@given(st.integers(1, 2000), st.data())
def test_wilsons_interval_is_scipys(images: int, data: st.DataObject) -> None:
    """For every whole number of right images."""
    right = data.draw(st.integers(0, images))
    interval, expected = (
        accuracy_interval(percent(right, images), images),
        binomtest(right, images).proportion_ci(method="wilson"),
    )

    assert [100 * expected.low, 100 * expected.high] == pytest.approx([interval.low, interval.high], abs=1e-6)


@given(PERCENT, IMAGES)
def test_an_interval_holds_the_accuracy(accuracy: float, images: int) -> None:
    """It lies in 0 to 100 %, is never a point, and narrows with more images."""
    interval, more = accuracy_interval(accuracy, images), accuracy_interval(accuracy, 2 * images)

    assert 0 <= interval.low <= accuracy <= interval.high <= 100
    assert 0 < more.high - more.low < interval.high - interval.low


@given(PERCENT, PERCENT, IMAGES)
def test_swapping_networks_turns_the_interval(first: float, second: float, images: int) -> None:
    """It holds the difference, and narrows with more images."""
    gain, loss, more = (
        difference({0: a}, {0: b}, n)
        for a, b, n in ((first, second, images), (second, first, images), (first, second, 2 * images))
    )

    assert gain is not None
    assert loss is not None
    assert more is not None
    assert (gain.low, gain.high, gain.p) == pytest.approx((-loss.high, -loss.low, loss.p), abs=1e-9)
    assert -100 <= gain.low <= gain.mean <= gain.high <= 100
    assert more.high - more.low < gain.high - gain.low


@given(st.lists(st.tuples(PERCENT, PERCENT), min_size=1, max_size=6), IMAGES)
def test_p_agrees_with_the_interval(pairs: list[tuple[float, float]], images: int) -> None:
    """A difference is significant where its interval leaves out 0, and at least as wide as the test images make it."""
    gain = difference({n: a for n, (a, _) in enumerate(pairs)}, {n: b for n, (_, b) in enumerate(pairs)}, images)
    assert gain
    assume(abs(gain.p - 0.05) > 1e-6)
    first, second = (sum(pair[side] for pair in pairs) / len(pairs) for side in (0, 1))
    low, high = counted_difference(first, second, images)

    assert 0 <= gain.p <= 1
    assert gain.is_significant == (not gain.low <= 0 <= gain.high)
    assert gain.low <= low + 1e-9
    assert gain.high >= min(100, high) - 1e-9
    assert (gain.sign != 0) == gain.is_significant


def test_several_seeds_have_students_interval() -> None:
    """Paired by seed, whatever their order: t of 97.5 % at two degrees of freedom is 4.303."""
    gain = difference({2: 56.0, 0: 52.0, 1: 54.0}, {0: 50.0, 1: 50.0, 2: 50.0}, 1_000_000)
    mean = mean_interval([80.0, 82.0, 84.0], 1_000_000)

    assert gain
    assert (4.0, 3) == (gain.mean, gain.seeds)
    assert pytest.approx(4.3027 * 2 / 3**0.5, rel=1e-4) == gain.high - gain.mean
    assert pytest.approx(ttest_1samp([2.0, 4.0, 6.0], 0).pvalue) == gain.p
    assert (82 - 4.968, 82 + 4.968) == pytest.approx((mean.low, mean.high), abs=0.001)


@pytest.mark.parametrize("seeds", [2, 3, 20])
def test_equal_seeds_are_no_certainty(seeds: int) -> None:
    """An sd of 0 leaves the noise of the test images, which all seeds share: 14 and 17 of 17 prove nothing."""
    better, worse = dict.fromkeys(range(seeds), 100.0), dict.fromkeys(range(seeds), percent(14, 17))
    gain, same = difference(better, worse, 17), difference(better, better, 17)
    mean = mean_interval([100.0] * seeds, 17)

    assert gain is not None
    assert same is not None
    assert gain.low < 0 < gain.mean
    assert gain.p > 0.05
    assert (-18.4, 18.4, 1.0) == pytest.approx((same.low, same.high, same.p), abs=0.05)
    assert (81.57, 100.0) == pytest.approx((mean.low, mean.high), abs=0.01)


def test_one_image_shows_nothing() -> None:
    """Right against wrong, one time."""
    gain = difference({0: 100.0}, {0: 0.0}, 1)

    assert gain is not None
    assert not gain.is_significant
    assert 20 < accuracy_interval(100.0, 1).low < 21


def test_only_common_known_seeds_count() -> None:
    """Seeds that one lacks, or whose accuracy is not a number, are left out; without any there is no difference."""
    gain = difference({0: 90.0, 1: 80.0, 2: math.nan, 3: 70.0}, {1: 70.0, 2: 60.0, 3: 60.0, 4: 1.0}, 10_000)

    assert gain
    assert (10.0, 2) == (gain.mean, gain.seeds)
    assert difference({0: 90.0}, {1: 80.0}, 100) is None
    assert difference({0: math.nan}, {0: 80.0}, 100) is None


def test_without_images_nothing_is_known() -> None:
    """Nor of an accuracy that is not a number."""
    gain = difference({0: 90.0}, {0: 10.0}, 0)

    assert gain is not None
    assert not gain.is_significant
    assert (0.0, 100.0) == (accuracy_interval(90.0, 0).low, accuracy_interval(90.0, 0).high)
    assert (0.0, 100.0) == (accuracy_interval(math.nan, 9).low, accuracy_interval(math.nan, 9).high)


@pytest.mark.parametrize(
    ("accuracy", "images", "chance", "expected"),
    [
        pytest.param(10.5, 10_000, 10.0, True, id="within the noise"),
        pytest.param(10.7, 10_000, 10.0, False, id="above it"),
        pytest.param(0.0, 10_000, 10.0, True, id="significantly below"),
        pytest.param(7.9, 1000, 10.0, True, id="below"),
        pytest.param(100.0, 1, 10.0, True, id="one right image of ten classes"),
        pytest.param(100.0, 2, 10.0, False, id="two right images of ten classes"),
        pytest.param(100.0, 5, 50.0, True, id="a coin that falls on one side five times"),
        pytest.param(100.0, 6, 50.0, False, id="and six times"),
        pytest.param(100.0, 10_000, 100.0, True, id="one class"),
        pytest.param(0.3, 10_000, 0.1, False, id="a thousand classes"),
        pytest.param(0.15, 10_000, 0.1, True, id="a thousand classes, by luck"),
        pytest.param(90.0, 1000, 90.0, True, id="the commonest class"),
        pytest.param(math.nan, 1000, 10.0, True, id="not a number"),
        pytest.param(50.0, 0, 10.0, True, id="no images"),
    ],
)
def test_chance_is_tested_exactly(accuracy: float, images: int, chance: float, expected: bool) -> None:
    """By the upper tail of the binomial distribution at 2.5 %."""
    assert expected is is_chance(accuracy, images, chance)


@given(st.integers(1, 3000), st.integers(1, 1000), st.data())
def test_chance_is_scipys_test(images: int, classes: int, data: st.DataObject) -> None:
    """The same p value as `binomtest`."""
    right = data.draw(st.integers(0, images))
    p = binomtest(right, images, 1 / classes, alternative="greater").pvalue
    assume(abs(p - 0.025) > 1e-9)

    assert bool(p >= 0.025) is is_chance(percent(right, images), images, 100 / classes)


def test_holms_correction_by_hand() -> None:
    """The smallest of three times three, the next times two, never decreasing, at most 1."""
    assert [0.03, 0.06, 0.06] == pytest.approx(holm([0.01, 0.04, 0.03]))
    assert [1.0, 1.0] == holm([0.9, 0.8])
    assert [] == holm([])


def test_signs() -> None:
    """A difference has a sign, minus as a minus."""
    assert ["+0.30", "−0.30", "+0.00", "+0.00"] == [signed(value, 2) for value in (0.3, -0.3, 0.0, -0.004)]
