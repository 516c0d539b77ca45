"""Verdict on a learned method: against its shuffled layer quotas, the best baseline, and the oracle."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from autosparse.report.cells import by_cell
from autosparse.report.schema import Verdict
from autosparse.report.study import CONFIDENCE, interval, paired

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
    accuracy, words = _mean(accuracies), list[str]()
    random = noise = reached = oracle = closed = None
    if shuffled:
        random, noise = _mean(shuffled), _noise(accuracies, shuffled, images)
        gain = _difference(accuracies, shuffled)
        words.append(_against_quotas(accuracy, gain, random, noise, chance, _of(shuffled, seeds)))
    best = max(baselines, key=lambda name: _mean(baselines[name][1]), default=None)
    test, gained = (baselines[best][0] if best is not None else {}), 0.0
    if test:
        reached, gained = _mean(test), _difference(accuracies, test)
        stands = _word(gained, _noise(accuracies, test, images))
        words.append(f"{stands} {best} ({reached:.1f}{_of(test, seeds)}), the best baseline by validation")
    if oracles:
        first, trained = next(iter(oracles.items()))
        oracle, gap = _mean(trained), _difference(trained, test) if test else 0.0
        if test and gap > _noise(trained, test, images) and gained > _noise(accuracies, test, images):
            closed = gained / gap
            way = f"{100 * closed:.0f} % of the way from there to {first}"
            words.append(f"{way} ({oracle:.1f}{_of(trained, seeds)})")
        else:
            words.append(f"{first} has {oracle:.1f}{_of(trained, seeds)}")
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


def _mean(accuracies: Accuracies) -> float:
    return statistics.fmean(accuracies.values())


def _difference(accuracies: Accuracies, other: Accuracies) -> float:
    # Of the means over the seeds that both have, where they share any.
    both = accuracies.keys() & other.keys()
    first, second = ({seed: one[seed] for seed in both or one} for one in (accuracies, other))
    return _mean(first) - _mean(second)


def _word(difference: float, noise: float) -> str:
    return "level with" if abs(difference) <= noise else "above" if difference > 0 else "below"


def _noise(accuracies: Accuracies, other: Accuracies, images: int) -> float:
    pairs = paired(accuracies, other)
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
    cells, validation, shuffled = by_cell(results), by_cell(results, "validation_accuracy"), by_cell(controls)
    verdicts = []
    for (name, budget), accuracies in cells.items():
        if name != method:
            continue
        others = {
            other: cell
            for (other, at), cell in cells.items()
            if at == budget and other not in (method, "dense") and cell.keys() & accuracies.keys()
        }
        shuffle = shuffled.get((f"{method}.shuffle", budget), {})
        verdicts.append(
            judge_method(
                budget,
                accuracies,
                shuffle if shuffle.keys() & accuracies.keys() else {},
                {
                    name: (cell, validation[name, budget])
                    for name, cell in others.items()
                    if name not in oracles and name not in learned
                },
                {name: cell for name, cell in others.items() if name in oracles},
                images=images,
                chance=chance,
                seeds=seeds,
            )
        )
    return verdicts
