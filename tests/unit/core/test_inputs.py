"""Nests of tensors: taken apart, replaced, counted."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch

from autosparse.core.inputs import arguments, examples_in, map_tensors, noise_like, resized, tensors_in

A, B = torch.ones(3, 2), torch.zeros(4)


class Two(NamedTuple):
    """A named tuple."""

    first: Any
    second: Any


def test_arguments() -> None:
    """A tensor is the one argument, a tuple or list several by position, a mapping several by name."""
    assert ((A,), {}) == arguments(A)
    assert ((A, B), {}) == arguments((A, B)) == arguments([A, B])
    assert ((), {"a": A}) == arguments({"a": A})


def test_tensors_of_a_nest() -> None:
    """All tensors in order, from whatever depth."""
    tensors = [*tensors_in({"a": [A, (B, 3)], "b": None, "c": A})]

    assert [id(A), id(B), id(A)] == [id(tensor) for tensor in tensors]


def test_replacing_keeps_the_nest() -> None:
    """The types of the nest stay, and so do values that are not tensors."""
    tensors = map_tensors(lambda tensor: tensor + 1, [Two(B, "text"), {"a": (B,)}, 5])

    assert isinstance(tensors[0], Two)
    assert [1.0] * 4 == tensors[0].first.tolist() == tensors[1]["a"][0].tolist()
    assert ("text", 5) == (tensors[0].second, tensors[2])


@pytest.mark.parametrize(("inputs", "expected"), [(A, 3), ([B, A], 4), ({"a": 1, "b": A}, 3), (B.sum(), 1), (None, 1)])
def test_examples_by_hand(inputs: Any, expected: int) -> None:
    """The first dimension of the first tensor counts the examples."""
    assert expected == examples_in(inputs)


def test_batches_of_another_size() -> None:
    """The first examples, repeated as often as needed; other values stay."""
    inputs: Any = {"x": torch.tensor([1, 2, 3]), "flag": True}

    fewer, more = (dict[str, Any](resized(inputs, count)) for count in (2, 5))

    assert ([1, 2], [1, 2, 3, 1, 2]) == (fewer["x"].tolist(), more["x"].tolist())
    assert more["flag"] is True


def test_noise_is_the_same_wherever_it_is_asked_for() -> None:
    """Under any default device, in the type of the input; tokens are no noise."""
    inputs: Any = (torch.zeros(2, 3, dtype=torch.float64), torch.ones(2, dtype=torch.long))
    here: Any = noise_like(inputs)
    with torch.device("meta"):
        there: Any = noise_like(inputs)

    for one, other in zip(here, there, strict=True):
        assert torch.equal(one, other)
    assert (torch.float64, [1, 1]) == (here[0].dtype, here[1].tolist())
