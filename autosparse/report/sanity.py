"""Sanity checks in words: the part of a method's accuracy due to its choice of weights."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from autosparse.core.sanity import best_of, left_out
from autosparse.planning.model import Check
from autosparse.report.cells import TRAINED, by_cell
from autosparse.report.finished import Finished
from autosparse.report.schema import Checked, Result, Sanity
from autosparse.report.significance import CONFIDENCE, counted_difference, counting_noise, is_chance, signed
from autosparse.steps.sanity import SanityResult
from autosparse.steps.train import EvaluateResult

_QUANTILE = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)

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
    check: str,
    accuracy: float,
    difference: float,
    noise: float,
    noticeable: float,
    *,
    known: bool,
    images: int,
    chance: float,
) -> str:
    """Return a check in words, with its numbers; `known` is false if the noise is a lower bound, not that of seeds.

    A difference counts above `noticeable`, where the interval of counting `images` excludes 0. Up to half of that it
    counts as none, if `noticeable` is small against the method's gain over `chance`; otherwise it is undecided. Without
    a verdict: the method or its replacement is at chance, or both are within `noticeable` of it.
    """
    same, worse, better, done = _WORDS[check]
    reference = accuracy - difference
    finding = worse if difference < 0 else better
    useless = [is_chance(one, images, chance) for one in (reference, accuracy)]
    low, high = counted_difference(accuracy, reference, images)
    if all(useless):
        finding = "no verdict, both are at chance"
    elif max(reference, accuracy) <= chance + noticeable:
        finding = "no verdict, both are within the noise of chance"
    elif any(useless):
        finding = f"no verdict, {'the method itself' if useless[0] else 'the network'} is at chance"
    elif abs(difference) <= noticeable or low <= 0 <= high:
        small = noticeable <= _SMALL * (reference - chance)
        finding = same if small and abs(difference) <= noticeable / _CERTAIN else "undecided"
    spread = f"noise {noise:.1f}" if known else f"noise over seeds unknown, at least {noise:.1f}"
    on_one = "" if known or finding.startswith(("undecided", "no verdict")) else "on one seed, "
    return f"{on_one}{finding}: {accuracy:.1f} {done} ({signed(difference, 1)}, {spread})"


def noise_of(accuracies: Mapping[str, Sequence[float]], method: str, images: int) -> tuple[float, str]:
    """Return the standard deviation of a network's test accuracy, and its source.

    It is that of the method's seeds, or with fewer than three the widest of all methods. It is at least the standard
    error of counting on `images` test images, the only noise known for one seed: that of the score interval, which has
    a width at 0 and 100 %.
    """
    reached = accuracies[method]
    floor = counting_noise(statistics.fmean(reached), images) / (_QUANTILE * 2**0.5)
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
    in_words: Callable[[str, float, float, int], str],
) -> Checked:
    steps = {check.seed: check.step for check in checks if check.check == name and check.step}
    finished_ones = {seed: step for seed, step in steps.items() if finished.has(step)}
    done = {seed: step for seed, step in finished_ones.items() if seed in accuracies}
    checks_made = [_read_check(finished, step) for step in done.values()]
    reason = next((item.left_out for item in checks_made if item.left_out), left_out(name, choices))
    if reason or not done:
        lost = "the method has no trained network at its seeds" if finished_ones else "its step failed"
        return Checked(name, None, None, None, None, "", reason or lost)
    test, validation, shared = (
        _mean_of_checks(checks_made, part) for part in ("test_accuracy", "validation_accuracy", "overlap")
    )
    assert test is not None
    difference = test - statistics.fmean(value for seed, value in accuracies.items() if seed in done)
    return Checked(name, test, validation, difference, shared, in_words(name, test, difference, len(done)), "")


def _describe(finished: Finished, results: Sequence[Result], checks: Sequence[Check]) -> Sanity:
    plan, first = finished.plan, checks[0]
    seeds = list(dict.fromkeys(check.seed for check in checks))
    within = [result for result in results if result.budget == first.budget]
    at = [result for result in within if result.seed in seeds]
    chosen, means = best_of(
        {key: [one.validation_accuracy for one in at if one.method == name] for key, name in first.candidates.items()}
    )
    method, tests = first.candidates[chosen], finished.test
    # Networks without a path or at chance say nothing of the noise; a method without any other gets no verdict.
    trained = [result for result in within if result.status == TRAINED]
    accuracies = {name: [*cell.values()] for (name, _), cell in by_cell(trained).items()}
    accuracies.setdefault(method, [result.test_accuracy for result in within if result.method == method])
    by_seed = by_cell(at)[method, first.budget]
    sound = by_cell(trained).get((method, first.budget), {})
    by_seed = {seed: value for seed, value in by_seed.items() if seed in sound} or by_seed
    noise, noise_from = noise_of(accuracies, method, tests.images)
    counted = counting_noise(statistics.fmean(accuracies[method]), tests.images)
    choices = next(item.choices() for item in plan.spec.methods if item.name == method)
    known = len(accuracies[method]) > 1

    def noticeable(number: int) -> float:
        return max(_CERTAIN * noise * math.sqrt(2 / number), counted)  # seeds share the images

    def in_words(check: str, accuracy: float, difference: float, number: int) -> str:
        counts = noticeable(number)
        return judge(check, accuracy, difference, noise, counts, known=known, images=tests.images, chance=tests.chance)

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
        noticeable=noticeable(len(by_seed)),
        checks=[_check(finished, name, checks, by_seed, choices, in_words) for name in names],
    )
