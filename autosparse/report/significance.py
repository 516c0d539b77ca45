"""Confidence intervals and significance tests of accuracies, in percent of the test images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import NormalDist, fmean, stdev

CONFIDENCE = 0.95
_LEVEL = 1 - CONFIDENCE
_QUANTILE = NormalDist().inv_cdf(1 - _LEVEL / 2)

Accuracies = Mapping[int, float]
"""Accuracy by seed, in percent."""


@dataclass(frozen=True)
class Interval:
    """Accuracy in percent, the mean over seeds, and the ends of its 95 % confidence interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} [{self.low:.1f}, {self.high:.1f}]"


@dataclass(frozen=True)
class Difference:
    """Difference of two accuracies in points, paired by seed: the mean and the ends of its 95 % confidence interval.

    `p` is the probability of a difference as large or larger between equally good methods; below 0.05 where the
    interval excludes 0, unless it is adjusted for several comparisons.
    """

    mean: float
    low: float
    high: float
    p: float
    seeds: int
    """number of seeds that both have"""

    @property
    def sign(self) -> int:
        """1 for significantly more, -1 for significantly less, 0 without a significant difference."""
        return (self.mean > 0) - (self.mean < 0) if self.is_significant else 0

    @property
    def is_significant(self) -> bool:
        return self.p < _LEVEL

    def __str__(self) -> str:
        return f"{signed(self.mean)} [{signed(self.low)}, {signed(self.high)}]"


def accuracy_interval(accuracy: float, images: int) -> Interval:
    """Return the interval of an accuracy counted on a number of images: Wilson's score interval.

    Unlike p ± 1.96 sqrt(p (1 - p) / n) it has a width at 0 and 100 %. Without images it is 0 to 100 %.

    References:
        Wilson 1927, Probable inference, the law of succession, and statistical inference.
    """
    return Interval(accuracy, *_wilson(accuracy, images, _QUANTILE))


def mean_interval(accuracies: Sequence[float], images: int) -> Interval:
    """Return the interval of the mean over seeds: Student's interval, and at least that of counting the images.

    All seeds share the test images, so that more seeds do not narrow the second one.
    """
    mean = fmean(accuracies)
    counted = accuracy_interval(mean, images)
    half = _student_error(accuracies) * _student_quantile(len(accuracies) - 1) if len(accuracies) > 1 else 0.0
    return Interval(mean, max(0.0, min(counted.low, mean - half)), min(100.0, max(counted.high, mean + half)))


def difference(accuracies: Accuracies, others: Accuracies, images: int) -> Difference | None:
    """Return the difference of two methods over the seeds that both have; None without such a seed.

    Its interval covers two sources of noise. Test images: Newcombe's hybrid score interval for the means over seeds,
    whose independent samples are conservative for two networks on the same images. Seeds, two or more: Student's
    interval for paired differences. The interval reaches to the wider end on each side, and `p` is the larger one, so
    that equal differences at every seed are not certain. With one seed only the test images count.

    References:
        Newcombe 1998, Interval estimation for the difference between independent proportions, method 10.
    """
    seeds = [seed for seed in accuracies if _known(accuracies[seed]) and _known(others.get(seed))]
    if not seeds:
        return None
    first, second = fmean(accuracies[seed] for seed in seeds), fmean(others[seed] for seed in seeds)
    pairs = [accuracies[seed] - others[seed] for seed in seeds]
    mean = fmean(pairs)
    low, high = counted_difference(first, second, images)
    p = _newcombe_p(first, second, images)
    if len(pairs) > 1:
        error, freedom = _student_error(pairs), len(pairs) - 1
        half = error * _student_quantile(freedom)
        low, high = min(low, mean - half), max(high, mean + half)
        p = max(p, _student_p(mean, error, freedom))
    return Difference(mean, max(-100.0, low), min(100.0, high), p, len(seeds))


def counted_difference(accuracy: float, other: float, images: int) -> tuple[float, float]:
    """Return the ends of the interval of a difference in points, counted on the images: Newcombe's method 10."""
    return _newcombe(accuracy, other, images, _QUANTILE)


def counting_noise(accuracy: float, images: int) -> float:
    """Return the half width of the interval of no difference between two networks of this accuracy, in points."""
    low, high = counted_difference(accuracy, accuracy, images)
    return (high - low) / 2


def is_chance(accuracy: float, images: int, chance: float) -> bool:
    """Return whether an accuracy is not significantly above guessing, by the exact binomial test.

    `chance` is the accuracy of the best constant guess. Accuracies below it, unknown ones, and any without images are
    at chance. The level is 2.5 %, the upper end of a two-sided test at 5 %.
    """
    if images < 1 or not math.isfinite(accuracy):
        return True
    from scipy.special import bdtrc  # scipy.stats.binomtest gives the same, but takes half a second to import

    right = round(accuracy * images / 100)
    p = 1.0 if right < 1 else float(bdtrc(right - 1, images, min(1.0, chance / 100)))  # of as many right ones or more
    return p >= _LEVEL / 2


def holm(values: Sequence[float]) -> list[float]:
    """Return p values of m tests by Holm (1979): the smallest times m, the next times m - 1, never decreasing."""
    order = sorted(range(len(values)), key=values.__getitem__)
    scaled = (min(1.0, values[index] * (len(values) - rank)) for rank, index in enumerate(order))
    adjusted = dict(zip(order, accumulate(scaled, max), strict=True))
    return [adjusted[index] for index in range(len(values))]


def signed(value: float, digits: int = 1) -> str:
    """Return a difference with its sign, plus where it rounds to zero."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _known(accuracy: float | None) -> bool:
    return accuracy is not None and math.isfinite(accuracy)


def _wilson(accuracy: float, images: int, quantile: float) -> tuple[float, float]:
    # Also of means over seeds, which are no whole number of images; scipy's interval is of whole numbers alone.
    if images < 1 or not math.isfinite(accuracy):
        return 0.0, 100.0
    share, square = accuracy / 100, quantile**2
    centre = share + square / (2 * images)
    half = quantile * math.sqrt(max(0.0, share * (1 - share) / images + square / (4 * images**2)))
    low, high = (100 * end / (1 + square / images) for end in (centre - half, centre + half))
    return max(0.0, min(low, accuracy)), min(100.0, max(high, accuracy))


def _newcombe(first: float, second: float, images: int, quantile: float) -> tuple[float, float]:
    (low, high), (other_low, other_high) = (_wilson(one, images, quantile) for one in (first, second))
    less, more = math.hypot(first - low, other_high - second), math.hypot(high - first, second - other_low)
    return first - second - less, first - second + more


_FARTHEST = 37.0  # standard normal quantile of the smallest p value that a double holds


def _newcombe_p(first: float, second: float, images: int) -> float:
    # The level at which Newcombe's interval begins to include 0, so that interval and p value agree.
    worse, better = sorted((first, second))
    if worse == better or images < 1:
        return 1.0

    def low(quantile: float) -> float:
        return _newcombe(better, worse, images, quantile)[0]

    from scipy.optimize import brentq

    quantile = _FARTHEST if low(_FARTHEST) > 0 else float(brentq(low, 0.0, _FARTHEST))
    return math.erfc(quantile / math.sqrt(2))


def _student_error(values: Sequence[float]) -> float:
    spread = stdev(values) if all(map(math.isfinite, values)) else math.inf
    return spread / math.sqrt(len(values))


def _student_quantile(freedom: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 1 - _LEVEL / 2))


def _student_p(mean: float, error: float, freedom: int) -> float:
    from scipy.special import stdtr

    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return 2 * float(stdtr(freedom, -abs(mean) / error))
