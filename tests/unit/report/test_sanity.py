"""Sanity checks in words: by hand."""

from __future__ import annotations

import pytest

from autosparse.core.sanity import CHECKS
from autosparse.report.sanity import judge, noise_of


def judged(check: str, accuracy: float, difference: float, noise: float, noticeable: float, *, known: bool) -> str:
    """A check on 10,000 test images of ten classes."""
    return judge(check, accuracy, difference, noise, noticeable, known=known, images=10_000, chance=10.0)


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
    assert judged(check, accuracy, difference, 0.8, 2.26, known=True).startswith(expected)


def test_unknown_noise_is_told() -> None:
    """With one seed only the least noise is known."""
    printed = judged("shuffle", 57.7, -0.3, 2.7, 7.6, known=False)

    assert printed.endswith("57.7 when shuffled within layers (−0.3, noise over seeds unknown, at least 2.7)")


def test_a_definite_word_on_one_seed_says_so() -> None:
    """The noise over seeds is not known then."""
    assert judged("shuffle", 40.0, -20.0, 0.5, 1.4, known=False).startswith("on one seed, it adds to")


def test_much_noise_hides_an_effect() -> None:
    """No difference is seen where a large one could not have been: undecided, however noisy the comparison."""
    assert judged("random_labels", 28.2, -7.5, 12.7, 36.0, known=True).startswith("no verdict")
    assert judged("random_labels", 58.2, -2.5, 5.0, 14.0, known=True).startswith("undecided: ")


def test_at_chance_there_is_nothing_to_tell() -> None:
    """A network that learned nothing has no gain that could be its quotas."""
    assert judged("shuffle", 9.7, 2.0, 1.0, 2.8, known=True).startswith("no verdict, both are at chance")
    assert judged("shuffle", 9.7, 2.0, 1.0, 2.8, known=False).startswith("no verdict, both are at chance")
    assert judged("shuffle", 3.0, -2.0, 0.1, 0.2, known=True).startswith("no verdict, both are at chance")


def test_one_network_at_chance_is_named() -> None:
    """It may be its training that failed, not its masks: no verdict, whichever of the two it is."""
    assert judged("invert", 9.7, -30.0, 1.0, 2.8, known=True).startswith(
        "no verdict, the network is at chance: 9.7 with the lowest scores of each layer"
    )
    assert judged("shuffle", 60.0, 50.3, 1.0, 2.8, known=False).startswith(
        "no verdict, the method itself is at chance: 60.0 when shuffled within layers"
    )


def test_few_images_hide_an_effect() -> None:
    """On 17 images 17 right ones and 14 are no difference, however small the spread over seeds."""
    words = [
        judge("shuffle", 100 * right / 17, 100 * (right - 17) / 17, 0.0, 0.0, known=True, images=17, chance=10.0)
        for right in (14, 8)
    ]

    assert words[0].startswith("undecided: 82.4")
    assert words[1].startswith("it adds to its layer quotas: 47.1")


@pytest.mark.parametrize("check", CHECKS)
def test_every_check_has_words(check: str) -> None:
    """Each check distinguishes as well, worse, better and undecided."""
    reported = {
        judged(check, 50.0, difference, 1.0, 2.8, known=True).partition(":")[0] for difference in (0.1, 2, -9, 9)
    }

    assert 4 == len(reported)
    assert judged(check, 50.0, 2.0, 1.0, 2.8, known=True).startswith("undecided: ")


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
    """All or none of the images right still leaves noise, also where all seeds agree, and of one image."""
    assert 0 < noise_of({"a": [accuracy]}, "a", 300)[0] < 1
    assert 0 < noise_of({"a": [accuracy] * 3}, "a", 300)[0] < 1
    assert 20 < noise_of({"a": [accuracy]}, "a", 1)[0] < 50
