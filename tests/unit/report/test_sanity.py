"""Verdicts of sanity checks: words from numbers, and how large the noise is."""

from __future__ import annotations

import pytest

from autosparse.core.sanity import CHECKS
from autosparse.report.sanity import judge, noise_of, signed


@pytest.mark.parametrize(
    ("check", "accuracy", "difference", "expected"),
    [
        ("shuffle", 57.7, -0.3, "its gain is its layer quotas: shuffled within layers it has 57.7 (−0.3, noise 0.8)"),
        ("shuffle", 57.7, -10.3, "it knows more than layer quotas: shuffled within layers it has 57.7 (−10.3, noise"),
        ("shuffle", 62.4, 3.0, "its choice within layers does harm: shuffled within layers it has 62.4 (+3.0, noise"),
        ("shuffle", 57.7, -1.8, "undecided: shuffled within layers it has 57.7 (−1.8, noise 0.8)"),
        ("reinitialize", 57.1, -10.9, "its masks are made for their initial weights: with other initial weights"),
        ("reinitialize", 68.0, 0.1, "its masks do not depend on the weights they were made for: with other initial"),
        ("invert", 40.0, -28.0, "its scores rank the weights within layers: with the lowest scores of each layer"),
        ("invert", 70.0, 9.0, "its scores rank the weights within layers the wrong way round: with the lowest"),
        ("random_labels", 60.0, -8.0, "it learns from the labels: scored on permuted labels it has 60.0 (−8.0"),
        ("shuffled_pixels", 67.9, -0.1, "it needs no true images: scored on permuted pixels it has 67.9 (−0.1"),
    ],
)
def test_verdicts(check: str, accuracy: float, difference: float, expected: str) -> None:
    """What a difference says against noise of 0.8, of which one between single networks counts above 2.3."""
    assert judge(check, accuracy, difference, 0.8, 2.26, known=True, chance=10.0).startswith(expected)


def test_unknown_noise_is_told() -> None:
    """With one seed only the least noise is known."""
    told = judge("shuffle", 57.7, -0.3, 2.7, 7.6, known=False, chance=10.0)

    assert told.endswith("it has 57.7 (−0.3, noise over seeds unknown, at least 2.7)")


def test_a_definite_word_on_one_seed_says_so() -> None:
    """The noise over seeds is not known then."""
    assert judge("shuffle", 40.0, -20.0, 0.5, 1.4, known=False, chance=10.0).startswith("on one seed, it knows more")


def test_much_noise_hides_an_effect() -> None:
    """No difference is seen where a large one could not have been: undecided, however noisy the comparison."""
    assert judge("random_labels", 28.2, -7.5, 12.7, 36.0, known=True, chance=10.0).startswith("nothing to tell")
    assert judge("random_labels", 58.2, -2.5, 5.0, 14.0, known=True, chance=10.0).startswith("undecided: ")


def test_at_chance_there_is_nothing_to_tell() -> None:
    """A network that learned nothing has no gain that could be its quotas."""
    assert judge("shuffle", 9.7, 2.0, 1.0, 2.8, known=True, chance=10.0).startswith(
        "nothing to tell, both are at chance"
    )
    assert judge("invert", 9.7, -30.0, 1.0, 2.8, known=True, chance=10.0).startswith("its scores rank")


@pytest.mark.parametrize("check", CHECKS)
def test_every_check_has_words(check: str) -> None:
    """Each check tells as well, worse, better and undecided apart."""
    told = {
        judge(check, 50.0, difference, 1.0, 2.8, known=True, chance=10.0).partition(":")[0]
        for difference in (0.1, 2, -9, 9)
    }

    assert 4 == len(told)
    assert judge(check, 50.0, 2.0, 1.0, 2.8, known=True, chance=10.0).startswith("undecided: ")


@pytest.mark.parametrize(
    ("accuracies", "noise", "told"),
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
def test_noise_by_hand(accuracies: dict[str, list[float]], noise: float, told: str) -> None:
    """The sd of the method's seeds, at least sqrt(p (1 - p) / n): 0.5 points at 50 % on 10,000 images."""
    found, source = noise_of(accuracies, "a", 10_000)

    assert found == pytest.approx(noise, rel=1e-3)
    assert told in source


@pytest.mark.parametrize("accuracy", [0.0, 100.0])
def test_nothing_wrong_is_not_certain(accuracy: float) -> None:
    """All or none of the images right still leaves the noise of one image."""
    assert 0 < noise_of({"a": [accuracy]}, "a", 300)[0] < 1


def test_signs() -> None:
    """A difference has a sign, minus as a minus."""
    assert ["+0.30", "−0.30", "+0.00"] == [signed(value, 2) for value in (0.3, -0.3, 0.0)]
