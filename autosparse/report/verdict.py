"""Verdict on a learned method: against its shuffled layer quotas, the best baseline, and the oracle."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from autosparse.report.schema import Verdict
from autosparse.report.study import CONFIDENCE, interval

Accuracies = Mapping[int, float]
"""Test accuracy by seed."""


def judge_method(
    budget: str,
    accuracies: Accuracies,
    shuffled: Accuracies,
    baselines: Mapping[str, tuple[Accuracies, Accuracies]],
    oracles: Mapping[str, Accuracies],
    *,
    images: int,
    chance: float,
    seeds: int = 0,
) -> Verdict:
    """Judge a method within one budget.

    A method or control with fewer than `seeds` accuracies is compared by the seeds that both have, and the words give
    their number.

    `baselines` are name -> (test, validation) accuracies. Noise is half of the 95 % confidence interval of the
    difference, paired by seed, and never less than what counting on so many `images` leaves uncertain, which is all
    that is known of one seed.
    """
    accuracy = statistics.fmean(accuracies.values())
    words = []
    random = statistics.fmean(shuffled.values()) if shuffled else None
    noise = _noise(accuracies, shuffled, images) if shuffled else None
    if random is not None and noise is not None:
        gain = _difference(accuracies, shuffled)
        words.append(_against_quotas(accuracy, gain, random, noise, chance, _of(shuffled, seeds)))
    best = max(baselines, key=lambda name: statistics.fmean(baselines[name][1].values()), default=None)
    reached = None
    if best is not None:
        test = baselines[best][0]
        reached = statistics.fmean(test.values())
        stands = _word(_difference(accuracies, test), _noise(accuracies, test, images))
        words.append(f"{stands} {best} ({reached:.1f}{_of(test, seeds)}), the best baseline by validation")
    first = next(iter(oracles), None)
    oracle = statistics.fmean(oracles[first].values()) if first is not None else None
    closed = None
    if first is not None and oracle is not None:
        if best is not None and reached is not None:
            test = baselines[best][0]
            gap, gained = _difference(oracles[first], test), _difference(accuracies, test)
            if gap > _noise(oracles[first], test, images) and gained > _noise(accuracies, test, images):
                closed = gained / gap
        if closed is None:
            words.append(f"{first} has {oracle:.1f}{_of(oracles[first], seeds)}")
        else:
            way = f"{100 * closed:.0f} % of the way from there to {first}"
            words.append(f"{way} ({oracle:.1f}{_of(oracles[first], seeds)})")
    text = f"{accuracy:.1f}: {', '.join(words)}" if words else f"{accuracy:.1f}"
    number = _of(accuracies, seeds).removeprefix(", ") or ("one seed" if len(accuracies) < 2 else "")
    text = f"{text} ({number})" if number else text
    return Verdict(budget, accuracy, random, best, reached, oracle, closed, noise, text)


def _against_quotas(accuracy: float, gain: float, shuffled: float, noise: float, chance: float, number: str) -> str:
    if max(accuracy, shuffled) <= chance + noise:
        return f"at chance, as its quotas filled at random are ({shuffled:.1f}{number})"
    if gain > noise:
        return f"more than its layer quotas ({shuffled:.1f} when filled at random{number})"
    if -gain > noise:
        return f"less than its layer quotas filled at random ({shuffled:.1f}{number})"
    return f"nothing shows that it is more than its layer quotas ({shuffled:.1f} when filled at random{number})"


def _of(accuracies: Accuracies, seeds: int) -> str:
    return f", {len(accuracies)} of {seeds} seeds" if len(accuracies) < seeds else ""


def _difference(accuracies: Accuracies, other: Accuracies) -> float:
    # Of the means over the seeds that both have, where they share any.
    both = [seed for seed in accuracies if seed in other]
    pairs = [{seed: one[seed] for seed in both or one} for one in (accuracies, other)]
    first, second = (statistics.fmean(one.values()) for one in pairs)
    return first - second


def _word(difference: float, noise: float) -> str:
    return "level with" if abs(difference) <= noise else "above" if difference > 0 else "below"


def _noise(accuracies: Accuracies, other: Accuracies, images: int) -> float:
    pairs = [accuracies[seed] - other[seed] for seed in accuracies if seed in other]
    half = interval(pairs).half if len(pairs) > 1 else None
    # The standard error of the difference of two accuracies, each counted on so many images.
    share = statistics.fmean([*accuracies.values(), *other.values()]) / 100
    counted = math.sqrt(2 * share * (1 - share) / images / max(1, len(pairs)))
    return max(half or 0.0, 100 * statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * counted)


def judge_results(
    method: str,
    results: Sequence[Any],
    controls: Sequence[Any],
    oracles: Collection[str],
    learned: Collection[str],
    *,
    images: int,
    chance: float,
    seeds: int = 0,
) -> list[Verdict]:
    """A verdict for every budget at which a method has results; `results` and `controls` are those of a report.

    Baselines are all others but `oracles`, which trained the very network before, and `learned` ones. Methods and
    controls without a result at a seed of the method are left out. `seeds` is the number of seeds in the spec.
    """

    def by_seed(networks: Sequence[Any], name: str, budget: str, split: str = "test_accuracy") -> dict[int, float]:
        return {r.seed: getattr(r, split) for r in networks if (r.method, r.budget) == (name, budget)}

    def comparable(networks: Sequence[Any], budget: str, accuracies: Accuracies) -> dict[str, None]:
        return dict.fromkeys(r.method for r in networks if r.budget == budget and r.seed in accuracies)

    verdicts = []
    for budget in dict.fromkeys(result.budget for result in results if result.method == method):
        accuracies = by_seed(results, method, budget)
        names = [name for name in comparable(results, budget, accuracies) if name not in (method, "dense")]
        shuffle = f"{method}.shuffle"
        verdicts.append(
            judge_method(
                budget,
                accuracies,
                by_seed(controls, shuffle, budget) if shuffle in comparable(controls, budget, accuracies) else {},
                {
                    name: (by_seed(results, name, budget), by_seed(results, name, budget, "validation_accuracy"))
                    for name in names
                    if name not in oracles and name not in learned
                },
                {name: by_seed(results, name, budget) for name in names if name in oracles},
                images=images,
                chance=chance,
                seeds=seeds,
            )
        )
    return verdicts
