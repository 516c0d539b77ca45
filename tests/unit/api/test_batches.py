"""As many examples as are asked for, from any iterable."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from autosparse.api.batches import Examples, Signature
from autosparse.core.inputs import examples_in
from autosparse.errors import UsageError

CPU = torch.device("cpu")


def fetch(batches: Any, device: torch.device) -> Examples:
    """Examples for a network that takes one tensor."""
    return Examples(batches, device, Signature(torch.nn.Identity()))


def counted(size: int, batches: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Batches whose examples are numbered."""
    numbers = torch.arange(float(size * batches)).view(batches, size, 1)
    return [(part, part[:, 0].long()) for part in numbers]


@pytest.mark.parametrize(
    ("images", "expected"),
    [(1, [1]), (3, [3]), (4, [4]), (6, [4, 2]), (8, [4, 4]), (9, [4, 4, 2]), (12, [4, 4, 4]), (100, [4, 4, 4])],
)
def test_sizes(images: int, expected: list[int]) -> None:
    """The last batch is cut to fit, though not to a single example; a small set gives all it has."""
    drawn = fetch(counted(4, 3), CPU).draw(images)

    assert expected == [len(inputs) for inputs, _ in drawn]
    assert list(range(sum(expected))) == torch.cat([labels for _, labels in drawn]).tolist()


def test_only_what_is_asked_for_is_fetched() -> None:
    """Of an endless iterator two batches are taken for five examples, once for several draws."""
    source = iter(itertools.cycle(counted(4, 3)))
    examples = fetch(source, CPU)

    first, second = examples.draw(5), examples.draw(8)

    assert 4.0 == float(examples.draw(8)[1][0][0, 0])
    assert [[4, 2], [4, 4]] == [[len(inputs) for inputs, _ in drawn] for drawn in (first, second)]
    assert [[0.0]] == torch.as_tensor(examples.example()).tolist()
    assert 8.0 == float(next(source)[0][0, 0])


def test_an_iterator_that_runs_out() -> None:
    """An iterator that ends too early may have been used before, so it is refused and not taken for a small set."""
    with pytest.raises(UsageError, match="`batches` ran out after 8 of 9 examples"):
        fetch(iter(counted(4, 2)), CPU).draw(9)
    with pytest.raises(UsageError, match="`batches` is empty"):
        fetch(iter([]), CPU).draw(1)

    assert 2 == len(fetch(iter(counted(4, 2)), CPU).draw(8))


@pytest.mark.parametrize(
    ("batches", "sentence"),
    [
        (3, "`batches` must be an iterable of `(x, y)` but is int"),
        ([], "`batches` is empty"),
        ([torch.ones(2)], "batch 0 must be a pair `(x, y)` but is Tensor"),
        ([{"x": 3}], "x of batch 0 must be a tensor, or several in a tuple, list or mapping, but is int"),
        (
            [{"a": torch.ones(2), "b": torch.ones(2)}],
            "batch 0 has `a`, `b`, which the network's forward pass does not take",
        ),
        ([(torch.ones(2),) * 3], "batch 0 must be a pair `(x, y)` but is tuple of 3"),
        ([([1, 2], [3, 4])], "x of batch 0 must be a tensor, or several in a tuple, list or mapping, but is list"),
        ([(torch.ones(0, 2), torch.ones(0))], "batch 0 holds no example"),
    ],
)
def test_what_are_no_batches(batches: Any, sentence: str) -> None:
    """An object that is not an iterable of `(x, y)` is an error."""
    with pytest.raises(UsageError) as caught:
        fetch(batches, CPU).draw(2)

    assert sentence == caught.value.message
    assert caught.value.hint


def test_several_inputs_are_cut_together() -> None:
    """Inputs by position and by name, and nested labels, are cut in all their parts."""
    x, y = ([torch.ones(4, 2), torch.ones(4)], {"a": torch.ones(4), "b": (torch.ones(4, 1), "kept")})
    ((inputs, labels),) = Examples([(x, y)], CPU, Signature(torch.nn.Bilinear(2, 1, 1))).draw(3)

    assert isinstance(inputs, list)
    assert [3, 3] == [len(part) for part in inputs]
    assert [3, 3, "kept"] == [len(labels["a"]), len(labels["b"][0]), labels["b"][1]]


def test_a_batch_that_cannot_be_cut_stays_whole() -> None:
    """If a tensor does not begin with the batch's dimension, the whole batch is taken."""
    x = {"tokens": torch.ones(5, 4), "mask": torch.ones(3, 3)}
    ((inputs, _),) = fetch([(x, torch.ones(4))], CPU).draw(2)

    assert 5 == examples_in(inputs)


def test_low_precision_is_raised() -> None:
    """Half precision becomes float32 as the scored network does; whole numbers and float64 stay."""
    parts = [torch.ones(2, dtype=kind) for kind in (torch.float16, torch.bfloat16, torch.float64, torch.int64)]
    ((inputs, _),) = fetch([(parts, None)], CPU).draw(2)

    assert [torch.float32, torch.float32, torch.float64, torch.int64] == [part.dtype for part in inputs]


def test_training_goes_through_a_set_again_and_again() -> None:
    """A list restarts after its last batch, for every stream; nothing is held beyond the first batch."""
    data = [(torch.full((2, 1), float(number)), torch.zeros(2)) for number in range(3)]
    examples = fetch(data, CPU)
    first, second = examples.stream(), examples.stream()

    assert [0, 1, 2, 0, 1] == [int(next(first)[0][0, 0]) for _ in range(5)]
    assert [0, 1] == [int(next(second)[0][0, 0]) for _ in range(2)]
    assert 1 == len(examples._fetched)


def test_an_iterator_trains_from_what_was_drawn_until_it_runs_out() -> None:
    """Training includes the batches that scores used; the iterator's end is an error with its number of batches."""
    data = [(torch.full((2, 1), float(number)), torch.zeros(2)) for number in range(3)]
    examples = fetch(iter(data), CPU)
    examples.draw(2)
    stream = examples.stream()

    assert [0, 1, 2] == [int(next(stream)[0][0, 0]) for _ in range(3)]
    with pytest.raises(UsageError, match="`batches` ran out after 3"):
        next(stream)
