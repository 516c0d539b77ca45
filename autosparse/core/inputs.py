"""Inputs of a network: one tensor, several by position (a tuple or list) or several by name (a mapping)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, TypeAlias

from autosparse.lazy_torch import torch

Inputs: TypeAlias = "torch.Tensor | tuple[Any, ...] | list[Any] | Mapping[str, Any]"


class ExampleList(list[Any]):
    """Inputs of a network that takes one list, an entry for each example, such as a detector's images of many sizes."""


def arguments(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and the keyword arguments of a network's forward pass."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    if isinstance(inputs, ExampleList):
        return (list(inputs),), {}
    return (tuple(inputs), {}) if isinstance(inputs, tuple | list) else ((inputs,), {})


def call(network: Callable[..., Any], inputs: Inputs) -> Any:
    """Return the outputs of a network."""
    positional, named = arguments(inputs)
    return network(*positional, **named)


def leaves(value: Any) -> Iterator[Any]:
    """Yield the leaves of nested tuples, lists and mappings, in order."""
    if isinstance(value, tuple | list | Mapping):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from leaves(item)
    else:
        yield value


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Return the tensors in nested tuples, lists and mappings, in order."""
    return (leaf for leaf in leaves(value) if isinstance(leaf, torch.Tensor))


def map_tensors(function: Callable[[torch.Tensor], torch.Tensor], value: Any) -> Any:
    """Replace every tensor in nested tuples, lists and mappings; other leaves stay unchanged."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {name: map_tensors(function, item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        items = [map_tensors(function, item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def plain(value: Any) -> Any:
    """Convert mappings to dictionaries, tuples with names to plain ones, and lists of other classes to lists."""
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        items = map(plain, value)
        return tuple(items) if isinstance(value, tuple) else [*items]
    return value


def examples_in(inputs: Any) -> int:
    """Return the number of examples in a batch: the first dimension of its first tensor, 1 without one."""
    if isinstance(inputs, ExampleList):
        return len(inputs)
    first = next(tensors_in(inputs), None)
    return 1 if first is None or first.ndim == 0 else len(first)


def can_be_cut(batch: Any) -> bool:
    """Return whether all tensors of a batch begin with its dimension (not with time) and it holds no numbers.

    A list of labels has one for each example; a text or a flag applies to all of them.
    """
    examples = examples_in(batch[0])
    if isinstance(batch[0], ExampleList):
        return all(isinstance(part, torch.Tensor | list | tuple) and len(part) == examples for part in batch[1:])
    return all(
        part.ndim > 0 and len(part) == examples
        if isinstance(part, torch.Tensor)
        else isinstance(part, str | bool | None)
        for part in leaves(batch)
    )


def cut(batch: Any, begin: int, end: int) -> tuple[Any, Any]:
    """Return the examples from `begin` up to `end` of a batch that can be cut."""
    if isinstance(batch[0], ExampleList):
        return ExampleList(batch[0][begin:end]), batch[1][begin:end]
    inputs, labels = (map_tensors(lambda tensor: tensor[begin:end], part) for part in batch)
    return inputs, labels


def resized(inputs: Inputs, examples: int) -> Inputs:
    """Return inputs that can be cut with another number of examples: the first ones, repeated as often as needed."""

    def repeated(tensor: torch.Tensor) -> torch.Tensor:
        return tensor[torch.arange(examples, device=tensor.device) % len(tensor)]

    made: Inputs = map_tensors(repeated, inputs)
    return made


def noise_like(inputs: Inputs) -> Inputs:
    """Return inputs with the same normal noise in every call in place of floats; other tensors stay unchanged."""
    random = torch.Generator("cpu").manual_seed(0)

    def noise(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point():
            return tensor
        return torch.randn(tensor.shape, generator=random, device="cpu").to(tensor)

    noisy: Inputs = map_tensors(noise, inputs)
    return noisy


def in_parts(batches: Iterable[Any], parts: int) -> list[Any]:
    """Cut batches into `parts` microbatches of nearly equal size, fewer to avoid single examples, or none."""
    pieces: list[Any] = []
    for batch in batches:
        examples = examples_in(batch[0])
        number = min(parts, max(1, examples // 2)) if can_be_cut(batch) else 1
        ends = [round(examples * part / number) for part in range(number + 1)]
        pieces += [cut(batch, *bounds) if number > 1 else batch for bounds in pairwise(ends)]
    return pieces


def in_batches(batches: Iterable[Any], examples: int) -> list[Any]:
    """Cut batches that can be cut into batches of at most `examples`."""
    pieces: list[Any] = []
    for batch in batches:
        ends = range(0, examples_in(batch[0]), examples) if can_be_cut(batch) else ()
        pieces += [cut(batch, begin, begin + examples) for begin in ends] or [batch]
    return pieces
