"""Verdicts on methods and sanity checks, in words: by hand."""

from __future__ import annotations

import pytest

from autosparse.core.sanity import CHECKS
from autosparse.report.schema import Verdict
from autosparse.report.verdict import judge, judge_method, noise_of, signed

Accuracies = dict[int, float]


def judged(
    levels: Accuracies,
    shuffled: Accuracies,
    baselines: dict[str, tuple[Accuracies, Accuracies]] | None = None,
    oracle: Accuracies | None = None,
) -> Verdict:
    """A verdict on 10,000 test images of ten classes."""
    return judge_method(
        "0.98", levels, shuffled, baselines or {}, {"irp": oracle} if oracle else {}, images=10_000, chance=10.0
    )


@pytest.mark.parametrize(
    ("levels", "shuffled", "expected"),
    [
        (
            {0: 66.0, 1: 66.4, 2: 66.2},
            {0: 62.0, 1: 62.5, 2: 62.1},
            "significantly better than its own layer quotas, shuffled (62.2)",
        ),
        (
            {0: 62.0, 1: 62.4, 2: 62.2},
            {0: 62.1, 1: 62.2, 2: 62.4},
            ", not significantly better than its own layer quotas, shuffled (62.2)",
        ),
        (
            {0: 60.0, 1: 60.4, 2: 60.2},
            {0: 62.1, 1: 62.6, 2: 62.4},
            "significantly worse than its own layer quotas",
        ),
        (
            {0: 66.0},
            {0: 65.0},
            "66.0 %, not significantly better than its own layer quotas, shuffled (65.0)",
        ),
        ({0: 68.0}, {0: 65.0}, "68.0 %, significantly better than its own layer quotas, shuffled (65.0)"),
        (
            {0: 30.0, 1: 30.3},
            {0: 10.1, 1: 10.5},
            "its own layer quotas, shuffled (10.3, at chance)",
        ),
    ],
)
def test_against_its_quotas(levels: Accuracies, shuffled: Accuracies, expected: str) -> None:
    """A difference paired by seed counts where it exceeds its interval; of one seed, the test set's noise."""
    assert expected in judged(levels, shuffled).words


@pytest.mark.parametrize("accuracy", [10.0, 10.5, 3.0])
def test_networks_at_chance_get_no_verdict(accuracy: float) -> None:
    """On 10,000 images of ten classes guessing has less than 10.6 %: nothing is better or worse than that."""
    verdict = judged({0: accuracy}, {0: 50.0}, {"erk": ({0: 5.0}, {0: 5.0})}, {0: 95.0})

    assert f"{accuracy} %, no verdict: at chance (10.0 %)" == verdict.words
    assert (None,) * 6 == (
        verdict.shuffled, verdict.baseline, verdict.baseline_accuracy, verdict.oracle, verdict.closed, verdict.noise
    )  # fmt: skip
    assert "no verdict" not in judged({0: 10.7}, {0: 50.0}).words


def test_collapsed_networks_get_no_verdict() -> None:
    """Whatever their constant output happens to score."""
    verdict = judge_method("0.98", {0: 30.0}, {0: 10.0}, {}, {}, images=100, chance=10.0, statuses=["collapsed"])

    assert "30.0 %, no verdict: collapsed, no path from input to output" == verdict.words


@pytest.mark.parametrize(
    ("statuses", "seeds", "end"),
    [
        (["trained", "trained"], 2, "shuffled (50.0)"),
        (["trained", "collapsed"], 2, " (1 of 2 seeds collapsed)"),
        (["at chance", "trained"], 2, " (1 of 2 seeds at chance)"),
        (["collapsed", "trained"], 3, " (2 of 3 seeds, 1 of 2 seeds collapsed)"),
        (
            ["collapsed", "at chance"],
            2,
            "no verdict: at chance (10.0 %) (1 of 2 seeds collapsed, 1 of 2 seeds at chance)",
        ),
    ],
)
def test_a_verdict_counts_the_networks_that_have_not_learned(statuses: list[str], seeds: int, end: str) -> None:
    """Of some seeds; without a trained network the method gets no verdict."""
    levels, shuffled = {0: 96.0, 1: 60.0}, {0: 50.0, 1: 50.0}
    verdict = judge_method(
        "0.98", levels, shuffled, {}, {}, images=300, chance=10.0, seeds=seeds, statuses=statuses
    )  # fmt: skip

    assert verdict.words.endswith(end)


def test_references_at_chance_are_marked() -> None:
    """A baseline or an oracle that has not learned is no measure, and no gap begins there."""
    words = judged({0: 60.0}, {0: 10.1}, {"erk": ({0: 10.0}, {0: 10.0})}, {0: 95.0}).words

    assert "above the best baseline, erk (10.0, at chance)" in words
    assert "shuffled (10.1, at chance)" in words
    assert "irp reaches 95.0" in words
    assert "irp reaches 9.0, at chance" in judged({0: 60.0}, {}, None, {0: 9.0}).words


def test_noise_by_hand() -> None:
    """At 50 % of 10,000 images 1.96 times the root of 2 · 0.25 / 10,000; of several seeds Student's interval."""
    assert pytest.approx(100 * 1.95996 * (0.5 / 10_000) ** 0.5, rel=1e-4) == judged({0: 50.0}, {0: 50.0}).noise
    assert (
        pytest.approx(4.3027 * 2 / 3**0.5, rel=1e-4)
        == judged({0: 52.0, 1: 54.0, 2: 56.0}, {0: 50.0, 1: 50.0, 2: 50.0}).noise
    )


def test_noise_is_never_less_than_the_test_sets() -> None:
    """Equal differences at every seed are no certainty on 300 images; without a control the noise is unknown."""
    levels, other = {0: 72.0, 1: 73.0, 2: 74.0}, {0: 71.7, 1: 72.7, 2: 73.7}
    verdict = judge_method("0.98", levels, other, {"a": (other, other)}, {}, images=300, chance=10.0)

    assert "not significantly better than its own layer quotas" in verdict.words
    assert "level with the best baseline, a" in verdict.words
    assert judged(levels, {}).noise is None


def test_chance_is_that_of_the_classes() -> None:
    """Of two classes 73 % is far above chance."""
    verdict = judge_method("0.9", {0: 73.0}, {0: 55.0}, {}, {}, images=1000, chance=50.0)

    assert "significantly better than its own layer quotas" in verdict.words


def test_no_way_to_the_oracle_from_below() -> None:
    """A method below the baseline closes nothing; without a baseline the oracle is shown all the same."""
    baselines = {"erk": ({0: 90.7}, {0: 90.0})}
    below = judged({0: 85.0}, {}, baselines, {0: 95.0})

    assert below.closed is None
    assert "below the best baseline, erk (90.7); irp reaches 95.0" in below.words
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
    assert "above the best baseline, sound (62.1)" in verdict.words


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
    assert "66.0 %" == judged({0: 66.0}, {}).words


@pytest.mark.parametrize(
    ("check", "accuracy", "difference", "expected"),
    [
        (
            "shuffle",
            57.7,
            -0.3,
            "its gain comes from its layer quotas: 57.7 when shuffled within layers (−0.3, noise",
        ),
        ("shuffle", 57.7, -10.3, "it adds to its layer quotas: 57.7 when shuffled within layers (−10.3, noise"),
        ("shuffle", 62.4, 3.0, "its selection within layers is harmful: 62.4 when shuffled within layers (+3.0, noise"),
        ("shuffle", 57.7, -1.8, "undecided: 57.7 when shuffled within layers (−1.8, noise 0.8)"),
        ("reinitialize", 57.1, -10.9, "its masks depend on their initial weights: 57.1 with other initial weights"),
        (
            "reinitialize",
            68.0,
            0.1,
            "its masks do not depend on their initial weights: 68.0 with other",
        ),
        ("invert", 40.0, -28.0, "its scores rank the weights within layers: 40.0 with the lowest scores of each layer"),
        (
            "invert",
            70.0,
            9.0,
            "its scores rank the weights within layers in reverse: 70.0 with the lowest",
        ),
        ("random_labels", 60.0, -8.0, "it learns from the labels: 60.0 when scored on permuted labels (−8.0"),
        ("shuffled_pixels", 67.9, -0.1, "it needs no true images: 67.9 when scored on permuted pixels (−0.1"),
    ],
)
def test_verdicts(check: str, accuracy: float, difference: float, expected: str) -> None:
    """Verdicts on differences at noise 0.8: one between single networks counts above 2.3."""
    assert judge(check, accuracy, difference, 0.8, 2.26, known=True, chance=10.0).startswith(expected)


def test_unknown_noise_is_told() -> None:
    """With one seed only the least noise is known."""
    printed = judge("shuffle", 57.7, -0.3, 2.7, 7.6, known=False, chance=10.0)

    assert printed.endswith("57.7 when shuffled within layers (−0.3, noise over seeds unknown, at least 2.7)")


def test_a_definite_word_on_one_seed_says_so() -> None:
    """The noise over seeds is not known then."""
    assert judge("shuffle", 40.0, -20.0, 0.5, 1.4, known=False, chance=10.0).startswith("on one seed, it adds to")


def test_much_noise_hides_an_effect() -> None:
    """No difference is seen where a large one could not have been: undecided, however noisy the comparison."""
    assert judge("random_labels", 28.2, -7.5, 12.7, 36.0, known=True, chance=10.0).startswith("no verdict")
    assert judge("random_labels", 58.2, -2.5, 5.0, 14.0, known=True, chance=10.0).startswith("undecided: ")


def test_at_chance_there_is_nothing_to_tell() -> None:
    """A network that learned nothing has no gain that could be its quotas."""
    assert judge("shuffle", 9.7, 2.0, 1.0, 2.8, known=True, chance=10.0).startswith("no verdict, both are at chance")
    assert judge("shuffle", 9.7, 2.0, 1.0, 2.8, known=False, chance=10.0).startswith("no verdict, both are at chance")
    assert judge("invert", 9.7, -30.0, 1.0, 2.8, known=True, chance=10.0).startswith("its scores rank")


@pytest.mark.parametrize("check", CHECKS)
def test_every_check_has_words(check: str) -> None:
    """Each check distinguishes as well, worse, better and undecided."""
    reported = {
        judge(check, 50.0, difference, 1.0, 2.8, known=True, chance=10.0).partition(":")[0]
        for difference in (0.1, 2, -9, 9)
    }

    assert 4 == len(reported)
    assert judge(check, 50.0, 2.0, 1.0, 2.8, known=True, chance=10.0).startswith("undecided: ")


@pytest.mark.parametrize(
    ("accuracies", "noise", "printed"),
    [
        pytest.param(
            {"a": [50.0, 51.0, 52.0], "b": [10.0, 20.0, 30.0]}, 1.0, "the sd over 3 seeds", id="its own of three seeds"
        ),
        pytest.param(
            {"a": [50.0, 51.0], "b": [50.0, 54.0]}, 8**0.5, "the widest sd over 2 seeds", id="the widest of two seeds"
        ),
        pytest.param({"a": [50.0], "b": [1.0]}, 0.5, "that of seeds is unknown with one", id="one seed: counting"),
        pytest.param(
            {"a": [50.0, 50.0, 50.0]}, 0.5, "10,000 test images, above the spread over 3 seeds", id="equal by luck"
        ),
    ],
)
def test_noise_of_one_network_by_hand(accuracies: dict[str, list[float]], noise: float, printed: str) -> None:
    """The sd of the method's seeds, at least sqrt(p (1 - p) / n): 0.5 points at 50 % on 10,000 images."""
    result, source = noise_of(accuracies, "a", 10_000)

    assert result == pytest.approx(noise, rel=1e-3)
    assert printed in source


@pytest.mark.parametrize("accuracy", [0.0, 100.0])
def test_nothing_wrong_is_not_certain(accuracy: float) -> None:
    """All or none of the images right still leaves the noise of one image."""
    assert 0 < noise_of({"a": [accuracy]}, "a", 300)[0] < 1


def test_signs() -> None:
    """A difference has a sign, minus as a minus."""
    assert ["+0.30", "−0.30", "+0.00"] == [signed(value, 2) for value in (0.3, -0.3, 0.0)]
