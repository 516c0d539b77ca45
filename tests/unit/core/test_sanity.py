"""Sanity checks: what each puts in the place of what a method has, and where it would say nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from autosparse.core.allocation import allocations
from autosparse.core.evidence import Evidence
from autosparse.core.presets import PRESETS
from autosparse.core.sanity import (
    CHECKS,
    best_of,
    invert,
    is_shuffled_by_selection,
    left_out,
    overlap,
    permute_labels,
    permute_pixels,
    shuffle,
)
from autosparse.core.schedule import Pruning, schedules
from autosparse.core.selection import selections
from autosparse.core.weights import Tensors
from autosparse.spec.method import Method
from tests.unit.core.conftest import evidence_of, images_of, seeded, small

BITS = {"a": torch.tensor([[1, 0, 1], [0, 0, 1]]).bool(), "b": torch.tensor([1, 0]).bool(), "c": torch.ones(3).bool()}


def keyed(method: Any) -> dict[str, Any]:
    """The keyed choices of a method, as a spec writes it."""
    return Method.model_validate(method).choices()


def drive(schedule: Any, scores: dict[str, list[float]], keep: int) -> tuple[Tensors, Tensors]:
    """The masks of a schedule under constant scores and one threshold, and their inversion."""
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    evidence = evidence_of(network, (2,))
    names = list(evidence.weights)
    given = {
        n: torch.tensor(scores[part], dtype=torch.float32).view_as(evidence.weights[n])
        for n, part in zip(names, "ab", strict=True)
    }

    def score(evidence: Evidence) -> Tensors:
        return dict(given)

    pruning = Pruning(
        evidence, 6, keep, score=score, allocate=allocations["global"].function, select=selections["top"].function
    )
    first, second = schedule(pruning), invert(schedule, pruning)
    return dict(zip("ab", first.values(), strict=True)), dict(zip("ab", second.values(), strict=True))


def bits(masks: Tensors) -> list[list[int]]:
    """Masks as lists of 0 and 1."""
    return [mask.flatten().int().tolist() for mask in masks.values()]


def test_shuffle_moves_places_within_layers() -> None:
    """A layer keeps as many, where the generator says: the place of weight n is that of weight order[n] before."""
    shuffled = shuffle(BITS, seeded())
    order = torch.randperm(6, generator=seeded())

    assert BITS["a"].flatten()[order].tolist() == shuffled["a"].flatten().tolist()
    assert {"a": 3, "b": 1, "c": 3} == {name: int(mask.sum()) for name, mask in shuffled.items()}
    assert {"a": (2, 3), "b": (2,), "c": (3,)} == {name: tuple(mask.shape) for name, mask in shuffled.items()}


@given(seed=st.integers(0, 10**6))
def test_shuffle_keeps_the_counts(seed: int) -> None:
    """Whatever is drawn, and the same for the same generator; masks are not modified."""
    before = {name: mask.clone() for name, mask in BITS.items()}
    shuffled = shuffle(BITS, seeded(seed))

    assert [3, 1, 3] == [int(mask.sum()) for mask in shuffled.values()]
    assert bits(shuffled) == bits(shuffle(BITS, seeded(seed)))
    assert bits(before) == bits(BITS)


def test_invert_by_hand() -> None:
    """One threshold keeps 6, 5 and 4: one of the first layer, two of the second; inverted the first keeps its 1."""
    top, lowest = drive(schedules["one_shot"].function, {"a": [1, 2, 3, 6], "b": [4, 5]}, 3)

    assert [[0, 0, 0, 1], [1, 1]] == bits(top)
    assert [[1, 0, 0, 0], [1, 1]] == bits(lowest)


def test_invert_by_hand_in_rounds() -> None:
    """Each round has the counts of the method's round: 2 + 2 and then 1 + 1; pruned weights stay pruned."""

    def rounds(pruning: Pruning) -> Tensors:
        return schedules["linear"].function(pruning, rounds=2)

    top, lowest = drive(rounds, {"a": [1, 2, 3, 6], "b": [5, 4]}, 2)

    assert [[0, 0, 0, 1], [1, 0]] == bits(top)
    assert [[1, 0, 0, 0], [0, 1]] == bits(lowest)


def test_invert_of_equal_scores() -> None:
    """Of equal scores as many are drawn, negated or not."""
    top, lowest = drive(schedules["one_shot"].function, {"a": [1, 1, 1, 1], "b": [1, 1]}, 3)

    assert 3 == sum(map(sum, bits(top))) == sum(map(sum, bits(lowest)))


def test_invert_of_scores_that_are_equal_only_when_negated() -> None:
    """Rounds keep 4 and 2: one of the highest scores in each layer, and one of the two that are zero."""

    def rounds(pruning: Pruning) -> Tensors:
        return schedules["linear"].function(pruning, rounds=2)

    top, lowest = drive(rounds, {"a": [0, 0, 2, 6], "b": [5, 4]}, 2)

    assert [[0, 0, 0, 1], [1, 0]] == bits(top)
    assert bits(lowest) in ([[1, 0, 0, 0], [0, 1]], [[0, 1, 0, 0], [0, 1]])


def test_invert_draws_what_the_method_drew() -> None:
    """Quotas are taken from scores of the same random numbers as the inverted ones."""
    network = small()
    drawn: list[float] = []

    def score(evidence: Evidence) -> Tensors:
        drawn.append(float(torch.rand((), generator=evidence.generator)))
        return {name: weight.abs() for name, weight in evidence.weights.items()}

    evidence = evidence_of(network, (2, 6, 6))
    total = sum(weight.numel() for weight in evidence.weights.values())
    pruning = Pruning(
        evidence, total, 40, score=score, allocate=allocations["erk"].function, select=selections["top"].function
    )
    masks = invert(schedules["one_shot"].function, pruning)

    assert drawn[0] == drawn[1]
    assert 40 == sum(int(mask.sum()) for mask in masks.values())


def test_labels_are_permuted() -> None:
    """As many of each class, on other images; the pixels stay, and the set itself is not modified."""
    images = images_of(50)
    before = images.labels.clone()
    permuted = permute_labels(images, seeded(1))

    assert before[torch.randperm(50, generator=seeded(1))].tolist() == permuted.labels.tolist()
    assert before.tolist() == images.labels.tolist()
    assert permuted.labels.tolist() != before.tolist()
    assert permuted.pixels is images.pixels


class OnDisk:
    """Pixels that can only be read by the numbers of their images."""

    def __init__(self, pixels: Tensor) -> None:
        self._pixels = pixels
        self.shape: tuple[int, ...] = tuple(pixels.shape)

    def __getitem__(self, numbers: Tensor) -> Tensor:
        return self._pixels[numbers]


def test_pixels_are_permuted_in_each_image() -> None:
    """Each image has its own pixels, colours together, in an order that is not the next image's."""
    images = images_of(5)
    pixels = torch.arange(36 * 2).view(1, 6, 6, 2).repeat(5, 1, 1, 1).to(torch.uint8)
    permuted = permute_pixels(type(images)(pixels, images.labels, images.mean, images.spread), seeded(1)).pixels

    assert isinstance(permuted, Tensor)
    assert (5, 6, 6, 2) == tuple(permuted.shape)
    for image in permuted:
        assert {(2 * n, 2 * n + 1) for n in range(36)} == {tuple(pixel) for pixel in image.flatten(0, 1).tolist()}
    assert 5 == len({tuple(image.flatten().tolist()) for image in permuted})


def test_pixels_on_disk_are_permuted_as_in_memory() -> None:
    """The order is the image's own, in whatever batch it comes."""
    images = images_of(7)
    assert isinstance(images.pixels, Tensor)
    before = images.pixels.clone()
    memory = permute_pixels(images, seeded(3))
    disk = permute_pixels(type(images)(OnDisk(images.pixels), images.labels, images.mean, images.spread), seeded(3))
    numbers = torch.tensor([5, 0, 2])

    assert torch.equal(memory.pixels[numbers], disk.pixels[numbers])
    assert disk.input_shape == memory.input_shape
    assert torch.equal(before, images.pixels)


ALL_DRAWN = set(CHECKS)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        pytest.param("snip", set(), id="all say something of SNIP"),
        pytest.param("learned", set(), id="and of the learned scorer, which sees gradients"),
        pytest.param("magnitude", {"random_labels", "shuffled_pixels"}, id="magnitude looks at no images"),
        pytest.param("synflow", {"random_labels", "shuffled_pixels"}, id="nor does SynFlow"),
        pytest.param("erk", ALL_DRAWN, id="random weights have nothing to check"),
        pytest.param(
            {"criterion": "snip", "selection": "shuffle"}, {"shuffle", "invert"}, id="quotas of SNIP, filled at random"
        ),
        pytest.param("mask_search", set(), id="a search looks at images whatever it begins with"),
        pytest.param("edge_popup", set(), id="scores that begin at random are learned"),
        pytest.param(
            {"criterion": "magnitude", "schedule": {"name": "linear", "rounds": 2, "steps": 3}},
            set(),
            id="magnitude after training looks at images",
        ),
    ],
)
def test_checks_that_say_nothing_are_left_out(method: Any, expected: set[str]) -> None:
    """A check is left out if its subject does not exist, with the reason."""
    assert expected == {check for check in CHECKS if left_out(check, keyed(method))}


def test_the_reason_is_told() -> None:
    """The reason for leaving a check out is a clause of a sentence."""
    assert "it looks at no images" == left_out("random_labels", keyed("synflow"))
    assert "no score decides within its layers" == left_out("invert", keyed("random"))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_be_checked(preset: str) -> None:
    """For each published method and check it is known whether that says something."""
    for check in CHECKS:
        assert isinstance(left_out(check, keyed(preset)), str)


@pytest.mark.parametrize(
    ("method", "expected"),
    [("snip", True), ("mask_search", True), ("synflow", False), ({"criterion": "snip", "schedule": "linear"}, False)],
)
def test_a_random_selection_is_a_shuffle_where_quotas_are_made_once(method: Any, expected: bool) -> None:
    """In rounds the network that is scored is another once weights are chosen at random, and so are the quotas."""
    assert expected == is_shuffled_by_selection(keyed(method))


def test_overlap_by_hand() -> None:
    """Of four kept weights one is kept by the others too."""
    masks = {"a": torch.tensor([1, 1, 0]).bool(), "b": torch.tensor([1, 1]).bool()}
    others = {"a": torch.tensor([0, 1, 1]).bool(), "b": torch.tensor([0, 0]).bool()}

    assert 0.25 == overlap(masks, others)
    assert 1.0 == overlap(masks, masks)
    assert 0.0 == overlap({"a": torch.zeros(3).bool()}, others)


def test_the_best_has_the_highest_mean() -> None:
    """Of equals the first in alphabetic order, whatever order they come in."""
    assert ("b", {"a": 50.0, "b": 60.0}) == best_of({"b": [50.0, 70.0], "a": [99.0, 1.0]})
    assert "a" == best_of({"b": [50.0], "a": [50.0]})[0]
