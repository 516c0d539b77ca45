"""What a learned method comes to: against its own layer quotas, the best baseline, and the oracle."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autosparse.report.study import CONFIDENCE, interval


@dataclass(frozen=True)
class Verdict:
    """What a method comes to within a budget, in words and numbers; accuracies in percent are means over seeds.

    `baseline` is the one that is best on validation images. `closed` is how much of the gap between it and `oracle`
    the method closes, 1 being all of it; None where there is no gap that is larger than the noise.
    """

    budget: str
    accuracy: float
    shuffled: float | None
    baseline: str | None
    baseline_accuracy: float | None
    oracle: float | None
    closed: float | None
    noise: float
    words: str


Accuracies = Mapping[int, float]
"""Test accuracy by seed."""


def judge_method(
    budget: str,
    own: Accuracies,
    shuffled: Accuracies,
    baselines: Mapping[str, tuple[Accuracies, Accuracies]],
    oracles: Mapping[str, Accuracies],
    *,
    images: int,
    chance: float,
) -> Verdict:
    """Judge a method within one budget.

    `baselines` are name -> (test, validation) accuracies. Noise is half of the 95 % confidence interval of the
    difference, paired by seed; of one seed, what `images` test images alone leave uncertain.
    """
    accuracy = statistics.fmean(own.values())
    words, one_seed = [], len(own) < 2
    random = statistics.fmean(shuffled.values()) if shuffled else None
    noise = _noise(own, shuffled or own, images)
    if random is not None:
        words.append(_against_quotas(accuracy, random, noise, chance))
    best = max(baselines, key=lambda name: statistics.fmean(baselines[name][1].values()), default=None)
    reached = None
    if best is not None:
        test = baselines[best][0]
        reached = statistics.fmean(test.values())
        stands = _word(accuracy - reached, _noise(own, test, images))
        words.append(f"{stands} {best} ({reached:.1f}), the best baseline by validation")
    oracle = statistics.fmean(next(iter(oracles.values())).values()) if oracles else None
    closed = None
    if oracle is not None and reached is not None and best is not None:
        gap = oracle - reached
        if gap > _noise(next(iter(oracles.values())), baselines[best][0], images):
            closed = (accuracy - reached) / gap
            words.append(f"{100 * closed:.0f} % of the way from there to {next(iter(oracles))} ({oracle:.1f})")
        else:
            words.append(f"{next(iter(oracles))} has {oracle:.1f}")
    told = f"{accuracy:.1f}: {', '.join(words)}" if words else f"{accuracy:.1f}"
    return Verdict(
        budget, accuracy, random, best, reached, oracle, closed, noise, f"{told}{' (one seed)' if one_seed else ''}"
    )


def _against_quotas(accuracy: float, shuffled: float, noise: float, chance: float) -> str:
    if max(accuracy, shuffled) < 1.5 * chance:
        return f"at chance, as its quotas filled at random are ({shuffled:.1f})"
    if accuracy - shuffled > noise:
        return f"more than its layer quotas ({shuffled:.1f} when filled at random)"
    if shuffled - accuracy > noise:
        return f"less than its layer quotas filled at random ({shuffled:.1f})"
    return f"nothing shows more than its layer quotas ({shuffled:.1f} when filled at random)"


def _word(difference: float, noise: float) -> str:
    return "level with" if abs(difference) <= noise else "above" if difference > 0 else "below"


def _noise(own: Accuracies, other: Accuracies, images: int) -> float:
    pairs = [own[seed] - other[seed] for seed in own if seed in other]
    if (half := interval(pairs).half if pairs else None) is not None and len(pairs) > 1:
        return half
    # The standard error of the difference of two accuracies, each counted on so many images.
    share = statistics.fmean([*own.values(), *other.values()]) / 100
    return 100 * statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt(2 * share * (1 - share) / images)


def judge_results(
    method: str,
    results: Sequence[Any],
    controls: Sequence[Any],
    oracles: Collection[str],
    learned: Collection[str],
    *,
    images: int,
    chance: float,
) -> list[Verdict]:
    """A verdict for every budget of a method; `results` and `controls` are those of a report.

    Baselines are all others but `oracles`, which trained the very network before, and `learned` ones.
    """

    def by_seed(found: Sequence[Any], name: str, budget: str, split: str = "test_accuracy") -> dict[int, float]:
        return {r.seed: getattr(r, split) for r in found if (r.method, r.label) == (name, budget)}

    verdicts = []
    for budget in dict.fromkeys(result.label for result in results if result.method == method):
        names = dict.fromkeys(r.method for r in results if r.label == budget and r.method not in (method, "dense"))
        verdicts.append(
            judge_method(
                budget,
                by_seed(results, method, budget),
                by_seed(controls, f"{method}.shuffle", budget),
                {
                    name: (by_seed(results, name, budget), by_seed(results, name, budget, "validation_accuracy"))
                    for name in names
                    if name not in oracles and name not in learned
                },
                {name: by_seed(results, name, budget) for name in names if name in oracles},
                images=images,
                chance=chance,
            )
        )
    return verdicts
