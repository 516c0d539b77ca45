"""Warnings of the noise of counting test images."""

from __future__ import annotations

import pytest

from autosparse.report.warnings import describe_noise


def test_a_small_test_set_is_named() -> None:
    """With the interval of the best accuracy, and the noise of differences at 100 %."""
    assert [
        "17 test images: the 95 % interval of 100 % is 82 % to 100 %; hold out more images for testing",
        "one seed, 17 test images: differences below about 18.4 points are noise, and seed variation adds to it; "
        "set `seeds: [0, 1, 2]` for mean ± sd",
    ] == [*describe_noise([100.0, 100.0], 1, 17)]


def test_one_image_is_named() -> None:
    """It shows next to nothing."""
    first, *_ = describe_noise([100.0], 1, 1)

    assert first.startswith("1 test image: the 95 % interval of 100 % is 21 % to 100 %")


@pytest.mark.parametrize(
    ("accuracies", "seeds", "images", "number"),
    [
        pytest.param([100.0], 3, 17, 1, id="seeds are no images"),
        pytest.param([70.0], 3, 10_000, 0, id="enough of both"),
        pytest.param([70.0], 2, 10_000, 1, id="two seeds"),
        pytest.param([100.0, 60.0, 60.0], 3, 300, 1, id="most accuracies are known badly"),
        pytest.param([], 1, 17, 0, id="nothing is trained"),
    ],
)
def test_warnings_are_few(accuracies: list[float], seeds: int, images: int, number: int) -> None:
    """Of few images, and of fewer than three seeds."""
    assert number == len([*describe_noise(accuracies, seeds, images)])
