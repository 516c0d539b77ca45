"""Verdicts on a method against its own layer quotas, baselines and the oracle: by hand."""

from __future__ import annotations

import pytest

from autosparse.report.schema import Verdict
from autosparse.report.significance import is_chance
from autosparse.report.verdict import Networks, judge_method

Accuracies = dict[int, float]
ONE = "(one seed: seed variation not included)"


def networks(test: Accuracies, validation: Accuracies | None = None, images: int = 10_000) -> Networks:
    """Networks of ten classes, of which those at chance are known."""
    statuses = {seed: "at chance" for seed, value in test.items() if is_chance(value, images, 10.0)}
    return Networks(test, test if validation is None else validation, statuses)


def judged(
    levels: Accuracies,
    shuffled: Accuracies | None = None,
    baselines: dict[str, tuple[Accuracies, Accuracies]] | None = None,
    oracle: Accuracies | None = None,
    images: int = 10_000,
) -> Verdict:
    """A verdict on test images of ten classes."""
    return judge_method(
        "0.98",
        networks(levels, images=images),
        networks(shuffled, images=images) if shuffled else None,
        {name: networks(*pair, images=images) for name, pair in (baselines or {}).items()},
        {"irp": networks(oracle, images=images)} if oracle else {},
        images=images,
        chance=10.0,
    )


@pytest.mark.parametrize(
    ("levels", "shuffled", "expected"),
    [
        pytest.param(
            {0: 66.0, 1: 66.4, 2: 66.2},
            {0: 62.0, 1: 62.5, 2: 62.1},
            "66.2 %, significantly better than its own layer quotas, shuffled (62.2): +4.0 points, "
            "95 % interval +2.7 to +5.3",
            id="better",
        ),
        pytest.param(
            {0: 62.0, 1: 62.4, 2: 62.2},
            {0: 62.1, 1: 62.2, 2: 62.4},
            "62.2 %, no significant difference from its own layer quotas, shuffled (62.2): +0.0 points, "
            "95 % interval −1.4 to +1.3",
            id="equal",
        ),
        pytest.param(
            {0: 60.0, 1: 60.4, 2: 60.2},
            {0: 62.1, 1: 62.6, 2: 62.4},
            "60.2 %, significantly worse than its own layer quotas, shuffled (62.4): −2.2 points, "
            "95 % interval −3.5 to −0.8",
            id="worse",
        ),
        pytest.param(
            {0: 66.0},
            {0: 65.0},
            "66.0 %, no significant difference from its own layer quotas, shuffled (65.0): +1.0 points, "
            f"95 % interval −0.3 to +2.3 {ONE}",
            id="one seed",
        ),
        pytest.param(
            {0: 68.0},
            {0: 65.0},
            "68.0 %, significantly better than its own layer quotas, shuffled (65.0): +3.0 points, "
            f"95 % interval +1.7 to +4.3 {ONE}",
            id="one seed, better",
        ),
        pytest.param(
            {0: 30.0, 1: 30.3},
            {0: 10.1, 1: 10.5},
            "30.1 %, its own layer quotas, shuffled, are no reference: 10.3, at chance",
            id="a shuffle at chance",
        ),
    ],
)
def test_against_its_quotas(levels: Accuracies, shuffled: Accuracies, expected: str) -> None:
    """A difference paired by seed counts where its interval leaves out 0; of one seed, that of the test set."""
    assert expected == judged(levels, shuffled).words


def test_numbers_stand_next_to_the_words() -> None:
    """Differences with the ends of their intervals; none where nothing was compared."""
    verdict = judged({0: 68.0}, {0: 65.0}, {"erk": ({0: 50.0}, {0: 50.0})})

    assert verdict.shuffled_difference is not None
    assert verdict.baseline_difference is not None
    assert (3.0, 1) == (verdict.shuffled_difference.mean, verdict.shuffled_difference.seeds)
    assert (1.70, 4.30) == pytest.approx((verdict.shuffled_difference.low, verdict.shuffled_difference.high), abs=0.01)
    assert 18.0 == verdict.baseline_difference.mean
    assert judged({0: 68.0}).shuffled_difference is None
    assert judged({0: 68.0}).baseline_difference is None


@pytest.mark.parametrize("accuracy", [10.0, 10.5, 3.0])
def test_networks_at_chance_get_no_verdict(accuracy: float) -> None:
    """On 10,000 images of ten classes guessing has less than 10.6 %: nothing is better or worse than that."""
    verdict = judged({0: accuracy}, {0: 50.0}, {"erk": ({0: 5.0}, {0: 5.0})}, {0: 95.0})

    assert f"{accuracy} %, no verdict: at chance (10.0 %)" == verdict.words
    assert (None,) * 7 == (
        verdict.shuffled, verdict.shuffled_difference, verdict.baseline, verdict.baseline_accuracy,
        verdict.baseline_difference, verdict.oracle, verdict.closed,
    )  # fmt: skip
    assert "no verdict" not in judged({0: 10.7}, {0: 50.0}).words


def test_collapsed_networks_get_no_verdict() -> None:
    """Whatever their constant output happens to score."""
    collapsed = Networks({0: 30.0}, {0: 30.0}, {0: "collapsed"})
    verdict = judge_method("0.98", collapsed, networks({0: 50.0}), {}, {}, images=100, chance=10.0)

    assert "30.0 %, no verdict: collapsed, no path from input to output" == verdict.words


@pytest.mark.parametrize(
    ("statuses", "seeds", "begin", "end"),
    [
        ({}, 2, "78.0 %", "+53.4"),
        ({1: "collapsed"}, 2, "96.0 %", "(1 of 2 seeds collapsed, left out; one seed: seed variation not included)"),
        ({0: "at chance"}, 2, "60.0 %", "(1 of 2 seeds at chance, left out; one seed: seed variation not included)"),
        ({0: "collapsed"}, 3, "60.0 %", f"(2 of 3 seeds; 1 of 2 seeds collapsed, left out; {ONE[1:]}"),
        (
            {0: "collapsed", 1: "at chance"},
            2,
            "78.0 %, no verdict: at chance (10.0 %)",
            "(1 of 2 seeds collapsed; 1 of 2 seeds at chance)",
        ),
    ],
)  # fmt: skip
def test_networks_that_have_not_learned_are_left_out(
    statuses: dict[int, str], seeds: int, begin: str, end: str
) -> None:
    """Of some seeds, and counted; without a trained network the method gets no verdict."""
    levels, shuffled = {0: 96.0, 1: 60.0}, {0: 50.0, 1: 50.0}
    method = Networks(levels, levels, statuses)
    verdict = judge_method("0.98", method, networks(shuffled), {}, {}, images=10_000_000, chance=10.0, seeds=seeds)

    assert verdict.words.startswith(begin)
    if statuses:
        assert verdict.words.endswith(end)
    else:  # two seeds far apart
        assert "no significant difference" in verdict.words


def test_references_at_chance_are_none() -> None:
    """A baseline or an oracle that has not learned is no measure, is named, and no gap begins there."""
    verdict = judged({0: 60.0}, {0: 10.1}, {"erk": ({0: 10.0}, {0: 10.0})}, {0: 95.0})

    assert (
        "60.0 %, no baseline to compare with: erk (10.0, at chance); its own layer quotas, shuffled, are no reference: "
        "10.1, at chance; irp reaches 95.0"
    ) == verdict.words
    assert (None, None) == (verdict.baseline, verdict.closed)
    assert "irp is no reference: 9.0, at chance" in judged({0: 60.0}, {}, None, {0: 9.0}).words


def test_a_baseline_at_chance_is_never_the_best() -> None:
    """Even if its validation accuracy is the highest, as on a tiny validation set."""
    baselines = {"lucky": ({0: 10.0}, {0: 100.0}), "sound": ({0: 50.0}, {0: 99.0})}

    assert "sound" == judged({0: 60.0}, {}, baselines).baseline


def test_of_tied_baselines_the_first_is_the_best() -> None:
    """On validation images, in the order of the spec; the test set is never asked."""
    baselines = {"a": ({0: 50.0}, {0: 100.0}), "b": ({0: 55.0}, {0: 100.0})}

    assert "a" == judged({0: 60.0}, {}, baselines).baseline


@pytest.mark.parametrize("seeds", [1, 3])
def test_seventeen_images_decide_nothing(seeds: int) -> None:
    """All at 100 %, at every seed: the interval is that of the images."""
    same = dict.fromkeys(range(seeds), 100.0)
    verdict = judged(same, same, {"erk": (same, same)}, images=17)

    assert (
        "no significant difference from the best baseline, erk (100.0): +0.0 points, 95 % interval −18.4 to +18.4"
        in (verdict.words)
    )
    assert "shuffled (100.0): +0.0 points, 95 % interval −18.4 to +18.4" in verdict.words


def test_equal_differences_are_no_certainty() -> None:
    """At every seed on 300 images."""
    levels, other = {0: 72.0, 1: 73.0, 2: 74.0}, {0: 71.7, 1: 72.7, 2: 73.7}
    words = judged(levels, other, {"a": (other, other)}, images=300).words

    assert "no significant difference from its own layer quotas" in words
    assert "no significant difference from the best baseline, a (72.7): +0.3 points, 95 % interval −6.8" in words


def test_no_way_to_the_oracle_from_below() -> None:
    """A method below the baseline closes nothing; without a baseline the oracle is shown all the same."""
    baselines = {"erk": ({0: 90.7}, {0: 90.0})}
    below = judged({0: 85.0}, {}, baselines, {0: 95.0})

    assert below.closed is None
    assert "significantly worse than the best baseline, erk (90.7): −5.7 points" in below.words
    assert "irp reaches 95.0" in below.words
    assert "irp reaches 95.0" in judged({0: 85.0}, {}, None, {0: 95.0}).words


def test_the_best_baseline_is_chosen_on_validation_images() -> None:
    """Not the one that happens to be best on the test set."""
    baselines = {
        "lucky": ({0: 65.0, 1: 65.2}, {0: 60.0, 1: 60.2}),
        "sound": ({0: 62.0, 1: 62.3}, {0: 63.0, 1: 63.1}),
    }
    verdict = judged({0: 66.0, 1: 66.4}, {}, baselines)

    assert "sound" == verdict.baseline
    assert pytest.approx(62.15) == verdict.baseline_accuracy
    assert "significantly better than the best baseline, sound (62.1): +4.1 points" in verdict.words


def test_the_way_to_the_oracle() -> None:
    """The share of the gap from the best baseline to IRP that is closed; nothing without a gap."""
    baselines = {"erk": ({0: 62.0, 1: 62.2, 2: 62.1}, {0: 62.0, 1: 62.0, 2: 62.0})}
    levels = {0: 66.5, 1: 66.7, 2: 66.6}
    verdict = judged(levels, {}, baselines, {0: 71.0, 1: 71.2, 2: 71.1})
    level = judged(levels, {}, baselines, {0: 62.1, 1: 62.0, 2: 62.3})

    assert pytest.approx(0.5, abs=0.01) == verdict.closed
    assert "closes 50 % of the gap to irp (71.1)" in verdict.words
    assert level.closed is None
    assert "irp reaches 62.1" in level.words


def test_alone_there_is_only_a_number() -> None:
    """Without controls and baselines."""
    assert "66.0 %" == judged({0: 66.0}).words
