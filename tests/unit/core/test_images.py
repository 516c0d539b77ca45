"""Images in memory and batches of them: every example once, shifted and mirrored pixel by pixel."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from autosparse.core.images import Images, epoch
from tests.unit.core.conftest import assert_same, images_of, seeded

HEIGHT, WIDTH, CHANNELS = 4, 5, 2


def numbered(count: int) -> Images:
    """Images of different non-black pixels, labelled by position, whose normalized pixels are the bytes."""
    pixels = torch.randint(1, 256, (count, HEIGHT, WIDTH, CHANNELS), generator=seeded(), dtype=torch.uint8)
    return Images(pixels, torch.arange(count), torch.zeros(CHANNELS), torch.full((CHANNELS,), 1 / 255))


def bytes_of(images: Images) -> Tensor:
    """The pixels of a set in memory."""
    assert isinstance(images.pixels, Tensor)
    return images.pixels


def shifted(image: Tensor, down: int, right: int, mirrored: bool) -> Tensor:
    """An image mirrored or not, then moved, with black coming in: one pixel at a time."""
    moved = torch.zeros_like(image)
    for y in range(HEIGHT):
        for x in range(WIDTH):
            source = (y - down, x - right)
            if 0 <= source[0] < HEIGHT and 0 <= source[1] < WIDTH:
                moved[y, x] = image[source[0], WIDTH - 1 - source[1] if mirrored else source[1]]
    return moved


def every_example(images: Images, crop: int, flip: bool, batch: int = 3, seed: int = 0) -> list[tuple[int, Tensor]]:
    """Label and bytes `[height, width, channels]` of each example of an epoch."""
    batches: list[tuple[int, Tensor]] = []
    for inputs, labels in epoch(images, batch=batch, crop=crop, flip=flip, generator=seeded(seed)):
        for image, label in zip(inputs, labels, strict=True):
            batches.append((int(label), image.permute(1, 2, 0).round().to(torch.uint8)))
    return batches


@pytest.mark.parametrize("cutout", [1, 2, 9])
def test_a_square_of_every_example_has_the_mean_colour(cutout: int) -> None:
    """Its centre is any pixel, what lies outside of the image is cut off; order, shift and mirror are as without it."""
    images = numbered(200)
    whole, cut = (
        [
            (inputs, labels)
            for inputs, labels in epoch(images, batch=7, crop=1, flip=True, generator=seeded(), cutout=side)
        ]
        for side in (0, cutout)
    )
    places = set()
    for (expected, labels), (result, same) in zip(whole, cut, strict=True):
        assert torch.equal(labels, same)
        for before, after in zip(expected, result, strict=True):
            changed = (before != after).any(dim=0)
            if not changed.any():
                continue  # the square lay where black came in
            rows, columns = changed.any(dim=1).nonzero().flatten(), changed.any(dim=0).nonzero().flatten()
            square = after[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert not square.any()
            assert max(square.shape[1:]) <= cutout
            places.add((int(rows[0]), int(columns[0])))

    assert len(places) > (1 if cutout == 9 else 4)


@pytest.mark.parametrize(("crop", "flip"), [(0, False), (0, True), (1, True), (2, False)])
def test_every_example_is_a_shift_of_its_image(crop: int, flip: bool) -> None:
    """Each example is its image under one shift and mirroring, and each of these occurs."""
    images = numbered(150)
    moves = {
        (down, right, mirrored)
        for down in range(-crop, crop + 1)
        for right in range(-crop, crop + 1)
        for mirrored in ({False, True} if flip else {False})
    }
    seen: Counter[tuple[int, int, bool]] = Counter()
    for seed in (1, 2):
        for label, actual in every_example(images, crop, flip, batch=64, seed=seed):
            fitting = [move for move in moves if torch.equal(shifted(bytes_of(images)[label], *move), actual)]
            assert 1 == len(fitting), label
            seen.update(fitting)

    assert moves == set(seen)


@pytest.mark.parametrize(("count", "batch"), [(10, 3), (9, 3), (2, 5), (1, 1), (11, 3)])
def test_every_example_comes_once(count: int, batch: int) -> None:
    """An epoch has every example exactly once, in batches of the asked size but the last; no single one is left."""
    sizes = [len(labels) for _, labels in epoch(numbered(count), batch=batch, crop=1, flip=True, generator=seeded())]
    labels = [label for label, _ in every_example(numbered(count), 1, True, batch)]

    assert list(range(count)) == sorted(labels)
    assert {(10, 3): [3, 3, 4], (9, 3): [3, 3, 3], (2, 5): [2], (1, 1): [1], (11, 3): [3, 3, 3, 2]}[
        count, batch
    ] == sizes


def test_without_augmentation_images_are_themselves() -> None:
    """With no crop and no flip an example is its image, in random order."""
    images = numbered(30)
    batches = every_example(images, 0, False)

    assert list(range(30)) != [label for label, _ in batches]
    assert all(torch.equal(bytes_of(images)[label], actual) for label, actual in batches)


def test_epoch_depends_on_the_generator_alone() -> None:
    """The same generator gives the same epoch, the next epoch differs, and the images stay as they were."""
    images, random = numbered(12), torch.get_rng_state()
    before = bytes_of(images).clone()
    generators = [seeded(4), seeded(4)]

    first, again, second = (
        [inputs for inputs, _ in epoch(images, batch=5, crop=2, flip=True, generator=generators[which])]
        for which in (0, 1, 1)
    )

    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert torch.equal(before, bytes_of(images))
    assert torch.equal(random, torch.get_rng_state())


def test_batch_size_does_not_change_the_examples() -> None:
    """The order, shifts and mirrorings of a seed are the same in batches of any size."""
    images = numbered(12)

    for (label, image), (other_label, other) in zip(
        every_example(images, 2, True, batch=5), every_example(images, 2, True, batch=12), strict=True
    ):
        assert label == other_label
        assert torch.equal(image, other)


def test_normalize_by_hand() -> None:
    """A pixel becomes (byte / 255 - mean) / spread of its channel."""
    images = Images(
        pixels=torch.tensor([[[[0, 255], [51, 102]]]], dtype=torch.uint8),
        labels=torch.tensor([0]),
        mean=torch.tensor([0.2, 0.5]),
        spread=torch.tensor([0.1, 0.25]),
    )

    expected = torch.tensor([[[[-2.0, 0.0]], [[2.0, -0.4]]]])
    torch.testing.assert_close(expected, images.normalize(bytes_of(images)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 5, 4), (1, 8, 8), (3, 1, 1)])
def test_batches_are_channels_last(shape: tuple[int, int, int]) -> None:
    """Batches are float32 `[batch, channels, height, width]`, channels last in memory."""
    images = images_of(7, shape)

    for inputs, labels in [
        *epoch(images, batch=4, crop=1, flip=True, generator=seeded()),
        *images.in_order(4),
        *images.sample(6, seeded(), batch=4),
    ]:
        assert (len(labels), *shape) == inputs.shape
        assert torch.float32 == inputs.dtype
        assert inputs.is_contiguous(memory_format=torch.channels_last)


def test_in_order_is_in_order() -> None:
    """`in_order` gives every example once, in order."""
    images = numbered(7)
    inputs, labels = (torch.cat(parts) for parts in zip(*images.in_order(3), strict=True))

    assert list(range(7)) == labels.tolist()
    assert torch.equal(bytes_of(images), inputs.permute(0, 2, 3, 1).round().to(torch.uint8))


def test_sample_has_different_examples_as_they_are() -> None:
    """A sample has as many different images as asked for, not augmented, in batches; at most all of them."""
    images = numbered(20)
    sample = images.sample(7, seeded(), batch=3)

    assert [3, 4] == [len(labels) for _, labels in sample]
    assert 7 == len({int(label) for _, labels in sample for label in labels})
    for inputs, labels in sample:
        assert torch.equal(bytes_of(images)[labels], inputs.permute(0, 2, 3, 1).round().to(torch.uint8))
    assert 20 == sum(len(labels) for _, labels in images.sample(99, seeded()))


def test_sample_depends_on_the_generator() -> None:
    """The same generator draws the same sample; a generator that went on draws another."""
    images, generator = numbered(50), seeded(1)
    first, second = (images.sample(10, generator)[0][1] for _ in range(2))

    assert torch.equal(first, images.sample(10, seeded(1))[0][1])
    assert not torch.equal(first, second)


def test_facts_of_a_set() -> None:
    """A set knows its length and the shape of an input, and is the same on the device it is on."""
    images = images_of(4, (3, 5, 6))
    moved = images.to(torch.device("cpu"))

    assert 4 == len(images)
    assert (3, 5, 6) == images.input_shape
    tensors = [
        {key: value for key, value in vars(item).items() if key not in ("readers", "contiguous")}
        for item in (images, moved)
    ]
    assert_same(*tensors)


class Disk:
    """Pixels that are read in pieces, as from a disk."""

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels
        self.shape = tuple(pixels.shape)

    def __getitem__(self, numbers: Tensor) -> Tensor:
        return self.pixels[numbers]


@pytest.mark.parametrize("readers", [0, 2])
def test_pixels_on_disk_give_the_batches_of_pixels_in_memory(readers: int) -> None:
    """Epochs, samples and passes in order are bit for bit the same, whoever reads."""
    resident = images_of(11, (3, 5, 6))
    assert isinstance(resident.pixels, Tensor)
    streamed = replace(resident, pixels=Disk(resident.pixels), readers=readers)

    def batches(images: Images) -> list[tuple[Tensor, Tensor]]:
        return [
            *epoch(images, batch=3, crop=2, flip=True, generator=seeded()),
            *epoch(images, batch=3, crop=0, flip=False, generator=seeded()),
            *images.sample(7, seeded(), batch=2),
            *images.in_order(4),
        ]

    before = torch.random.get_rng_state()
    for expected, actual in zip(batches(resident), batches(streamed), strict=True):
        assert torch.equal(expected[0], actual[0])
        assert torch.equal(expected[1], actual[1])

    assert torch.equal(before, torch.random.get_rng_state())
