"""Verdicts on a learned method, against quotas, baselines and the oracle, and on its sanity checks."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from autosparse.core.sanity import best_of, left_out
from autosparse.plan.model import Check
from autosparse.report.cells import TRAINED, USELESS, by_cell, statuses_by_cell
from autosparse.report.compare import CONFIDENCE, interval, paired
from autosparse.report.finished import Finished
from autosparse.report.schema import Checked, Result, Sanity, Verdict
from autosparse.steps.sanity import SanityResult
from autosparse.steps.train import EvaluateResult

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
    statuses: Sequence[str] = (),
) -> Verdict:
    """Judge a method within one budget; `baselines` are name -> (test, validation) accuracies.

    Noise is half of the 95 % confidence interval of the difference, paired by seed, and at least that of counting on
    `images`. The words give the number of accuracies where it is below `seeds`, and of networks whose `statuses` are
    not `trained`. A method at chance or without a trained network gets no verdict.
    """
    accuracy, words, several = _mean(accuracies), list[str](), len({*statuses}) > 1
    states = [f"{statuses.count(state)} of {len(statuses)} seeds {state}" for state in USELESS if state in statuses]
    remarks = [_of(accuracies, seeds).removeprefix(", "), *(states if several else ())]
    number = f" ({few})" if (few := ", ".join(filter(None, remarks))) else ""
    if is_chance(accuracy, images, chance) or (statuses and TRAINED not in statuses):
        collapsed = {*statuses} == {USELESS[0]}
        state = "collapsed, no path from input to output" if collapsed else f"at chance ({chance:.1f} %)"
        text = f"{accuracy:.1f} %, no verdict: {state}{number}"
        return Verdict(budget, accuracy, None, None, None, None, None, None, text)
    shown = partial(_shown, images=images, chance=chance, seeds=seeds)
    random = noise = reached = oracle = closed = None
    best = max(baselines, key=lambda name: _mean(baselines[name][1]), default=None)
    test, gained = (baselines[best][0] if best is not None else {}), 0.0
    reference = bool(test) and not is_chance(_mean(test), images, chance)
    if test:
        reached, gained = _mean(test), _difference(accuracies, test)
        level = abs(gained) <= _noise(accuracies, test, images)
        stands = "level with" if level else "above" if gained > 0 else "below"
        words.append(f"{stands} the best baseline, {best} ({shown(test)})")
    if shuffled:
        random, noise = _mean(shuffled), _noise(accuracies, shuffled, images)
        gain = _difference(accuracies, shuffled)
        stands = _SIGNIFICANCE[(gain > noise) - (-gain > noise)]
        words.append(f"{stands} its own layer quotas, shuffled ({shown(shuffled)})")
    if oracles:
        first, trained = next(iter(oracles.items()))
        oracle, gap = _mean(trained), _difference(trained, test) if reference else 0.0
        if reference and gap > _noise(trained, test, images) and gained > _noise(accuracies, test, images):
            closed = gained / gap
            words.append(f"closes {100 * closed:.0f} % of the gap to {first} ({shown(trained)})")
        else:
            words.append(f"{first} reaches {shown(trained)}")
    text = f"{', '.join([f'{accuracy:.1f} %', '; '.join(words)])}{number}" if words else f"{accuracy:.1f} %{number}"
    return Verdict(budget, accuracy, random, best, reached, oracle, closed, noise, text)


_SIGNIFICANCE = {1: "significantly better than", 0: "not significantly better than", -1: "significantly worse than"}
_QUANTILE = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


def is_chance(accuracy: float, images: int, chance: float) -> bool:
    """Return whether an accuracy is within the 95 % noise of guessing on `images` test images; all in percent."""
    share = chance / 100
    return accuracy <= chance + 100 * _QUANTILE * math.sqrt(share * (1 - share) / images)


def _shown(accuracies: Accuracies, *, images: int, chance: float, seeds: int) -> str:
    # The mean, with a remark where it is at chance or lacks seeds.
    mean = _mean(accuracies)
    return f"{mean:.1f}{', at chance' if is_chance(mean, images, chance) else ''}{_of(accuracies, seeds)}"


def _of(accuracies: Accuracies, seeds: int) -> str:
    return f", {len(accuracies)} of {seeds} seeds" if len(accuracies) < seeds else ""


def _mean(accuracies: Accuracies) -> float:
    return statistics.fmean(accuracies.values())


def _difference(accuracies: Accuracies, other: Accuracies) -> float:
    # Difference of the means over shared seeds, where any exist.
    both = accuracies.keys() & other.keys()
    first, second = ({seed: one[seed] for seed in both or one} for one in (accuracies, other))
    return _mean(first) - _mean(second)


def _noise(accuracies: Accuracies, other: Accuracies, images: int) -> float:
    pairs = paired(accuracies, other)
    half = interval(pairs).half if len(pairs) > 1 else None
    accuracy = statistics.fmean([*accuracies.values(), *other.values()])
    return max(half or 0.0, counting_noise(accuracy, images * max(1, len(pairs))))


def counting_noise(accuracy: float, images: int) -> float:
    """Return the 95 % noise of a difference of two accuracies, each counted on `images` test images; in percent."""
    share = accuracy / 100
    return 100 * _QUANTILE * math.sqrt(2 * share * (1 - share) / images)


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
    """Return a verdict for every budget with results of a method; `results` and `controls` are those of a report.

    Baselines are all other methods except `oracles`, which trained the very network before, and `learned` ones. Methods
    and controls without a result at a seed of the method are skipped. `seeds` is the number of seeds in the spec.
    """
    cells, validation, shuffled = by_cell(results), by_cell(results, "validation_accuracy"), by_cell(controls)
    statuses = statuses_by_cell(results)
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
                statuses=statuses[name, budget],
            )
        )
    return verdicts


_CERTAIN = 2  # factor on the noise of a difference
_ENOUGH = 3  # seeds from which the sd of a method is used
_SMALL = 0.1  # share of a method's gain over chance: only smaller differences count as none

# check -> words for an equal, worse, better network; and the intervention.
_WORDS = {
    "shuffle": (
        "its gain comes from its layer quotas",
        "it adds to its layer quotas",
        "its selection within layers is harmful",
        "when shuffled within layers",
    ),
    "reinitialize": (
        "its masks do not depend on their initial weights",
        "its masks depend on their initial weights",
        "its masks suit other initial weights better",
        "with other initial weights",
    ),
    "invert": (
        "its scores do not rank the weights within layers",
        "its scores rank the weights within layers",
        "its scores rank the weights within layers in reverse",
        "with the lowest scores of each layer",
    ),
    "random_labels": (
        "it needs no true labels",
        "it learns from the labels",
        "true labels mislead it",
        "when scored on permuted labels",
    ),
    "shuffled_pixels": (
        "it needs no true images",
        "it learns from the content of images",
        "true images mislead it",
        "when scored on permuted pixels",
    ),
}


def describe_sanity(finished: Finished, results: Sequence[Result]) -> list[Sanity]:
    """Return the checks of a plan, by method; `results` are the networks of the comparison.

    Skipped: checks without a finished step, and seeds at which the method or a candidate has no result.
    """
    plan = finished.plan
    reached = {(result.method, result.budget, result.seed) for result in results}
    subjects: dict[str, list[Check]] = {}
    for check in plan.checks:
        names = check.candidates.values()
        if all((name, check.budget, check.seed) in reached for name in names):
            subjects.setdefault(check.subject, []).append(check)
    return [
        _describe(finished, results, checks)
        for checks in subjects.values()
        if any(check.step is None or finished.has(check.step) for check in checks)
    ]


def judge(
    check: str, accuracy: float, difference: float, noise: float, noticeable: float, *, known: bool, chance: float
) -> str:
    """Return a check in words, with its numbers; `known` is false if the noise is a lower bound, not that of seeds.

    A difference counts above `noticeable`. Up to half of that it counts as none, if `noticeable` is small against the
    method's gain over `chance`; otherwise it is undecided. Without a verdict: both the method and its replacement are
    at chance.
    """
    same, worse, better, done = _WORDS[check]
    reference = accuracy - difference
    finding = worse if difference < 0 else better
    if max(reference, accuracy) <= chance + noticeable:
        finding = "no verdict, both are at chance"
    elif abs(difference) <= noticeable:
        small = noticeable <= _SMALL * (reference - chance)
        finding = same if small and abs(difference) <= noticeable / _CERTAIN else "undecided"
    spread = f"noise {noise:.1f}" if known else f"noise over seeds unknown, at least {noise:.1f}"
    on_one = "" if known or finding.startswith(("undecided", "no verdict")) else "on one seed, "
    return f"{on_one}{finding}: {accuracy:.1f} {done} ({signed(difference, 1)}, {spread})"


def noise_of(accuracies: Mapping[str, Sequence[float]], method: str, images: int) -> tuple[float, str]:
    """Return the standard deviation of a network's test accuracy, and its source.

    It is that of the method's seeds, or with fewer than three the widest of all methods. It is at least the standard
    error of counting on `images` test images, the only noise known for one seed.
    """
    reached = accuracies[method]
    share = min(max(statistics.fmean(reached) / 100, 1 / images), 1 - 1 / images)
    floor = 100 * (share * (1 - share) / images) ** 0.5
    counted = f"the standard error of {images:,} test images"
    if len(reached) < 2:
        return floor, f"{counted}; that of seeds is unknown with one"
    enough = len(reached) >= _ENOUGH
    spread = max(
        statistics.stdev(values) for values in ([reached] if enough else accuracies.values()) if len(values) > 1
    )
    if spread < floor:
        return floor, f"{counted}, above the spread over {len(reached)} seeds"
    return spread, f"the {'' if enough else 'widest '}sd over {len(reached)} seeds"


def signed(value: float, digits: int) -> str:
    """Return a difference with its sign."""
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _read_check(finished: Finished, name: str) -> SanityResult:
    # A control of the comparison may be the check.
    artifact = finished.open(name)
    if finished.plan.steps[name].gives(SanityResult):
        return SanityResult.read(artifact)
    control = EvaluateResult.read(artifact)
    return SanityResult("", {}, None, "", control.validation_accuracy, control.test_accuracy)


def _mean_of_checks(checks: Sequence[SanityResult], part: str) -> float | None:
    values = [value for check in checks if (value := getattr(check, part)) is not None]
    return statistics.fmean(values) if values else None


def _check(
    finished: Finished,
    name: str,
    checks: Sequence[Check],
    accuracies: Mapping[int, float],
    choices: Mapping[str, Any],
    in_words: Callable[[str, float, float], str],
) -> Checked:
    steps = {check.seed: check.step for check in checks if check.check == name and check.step}
    done = {seed: step for seed, step in steps.items() if finished.has(step)}
    checks_made = [_read_check(finished, step) for step in done.values()]
    reason = next((item.left_out for item in checks_made if item.left_out), left_out(name, choices))
    if reason or not done:
        return Checked(name, None, None, None, None, "", reason or "its step failed")
    test, validation, shared = (
        _mean_of_checks(checks_made, part) for part in ("test_accuracy", "validation_accuracy", "overlap")
    )
    assert test is not None
    difference = test - statistics.fmean(value for seed, value in accuracies.items() if seed in done)
    return Checked(name, test, validation, difference, shared, in_words(name, test, difference), "")


def _describe(finished: Finished, results: Sequence[Result], checks: Sequence[Check]) -> Sanity:
    plan, first = finished.plan, checks[0]
    seeds = list(dict.fromkeys(check.seed for check in checks))
    within = [result for result in results if result.budget == first.budget]
    at = [result for result in within if result.seed in seeds]
    chosen, means = best_of(
        {key: [one.validation_accuracy for one in at if one.method == name] for key, name in first.candidates.items()}
    )
    method = first.candidates[chosen]
    accuracies = {name: [*cell.values()] for (name, _), cell in by_cell(within).items()}
    by_seed = by_cell(at)[method, first.budget]
    noise, noise_from = noise_of(accuracies, method, finished.source.test_images)
    noticeable = _CERTAIN * noise * (2 / len(seeds)) ** 0.5
    choices = next(item.choices() for item in plan.spec.methods if item.name == method)
    known, chance = len(accuracies[method]) > 1, 100 / finished.source.classes
    in_words = partial(judge, noise=noise, noticeable=noticeable, known=known, chance=chance)
    names = dict.fromkeys(check.check for check in checks)
    return Sanity(
        subject=first.subject,
        method=method,
        budget=first.budget,
        sparsity=statistics.fmean(result.sparsity for result in at if result.method == method),
        seeds=seeds,
        test_accuracy=statistics.fmean(by_seed.values()),
        validation_accuracy=means[chosen],
        chosen_from={first.candidates[key]: value for key, value in means.items()} if len(means) > 1 else {},
        noise=noise,
        noise_from=noise_from,
        noticeable=noticeable,
        checks=[_check(finished, name, checks, by_seed, choices, in_words) for name in names],
    )
