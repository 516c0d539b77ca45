"""What goes into a network: one tensor, several by position (a tuple or list) or several by name (a mapping)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, TypeAlias

from autosparse.lazy_torch import torch

Inputs: TypeAlias = "torch.Tensor | tuple[Any, ...] | list[Any] | Mapping[str, Any]"


class ExampleList(list[Any]):
    """Inputs of a network that takes one list, an entry for each example, as detectors take images of many sizes."""


def arguments(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and the named arguments of a network's forward pass."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    if isinstance(inputs, ExampleList):
        return (list(inputs),), {}
    return (tuple(inputs), {}) if isinstance(inputs, tuple | list) else ((inputs,), {})


def leaves(value: Any) -> Iterator[Any]:
    """Return everything in a nest of tuples, lists and mappings that is none itself, in order."""
    if isinstance(value, tuple | list | Mapping):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from leaves(item)
    else:
        yield value


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """The tensors of a nest of tuples, lists and mappings, in order."""
    return (leaf for leaf in leaves(value) if isinstance(leaf, torch.Tensor))


def map_tensors(function: Callable[[torch.Tensor], torch.Tensor], value: Any) -> Any:
    """The same nest with every tensor replaced; what is neither tensor nor nest stays as it is."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {name: map_tensors(function, item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        items = [map_tensors(function, item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def examples_in(inputs: Any) -> int:
    """How many examples a batch holds: the first dimension of its first tensor, 1 where there is none."""
    if isinstance(inputs, ExampleList):
        return len(inputs)
    first = next(tensors_in(inputs), None)
    return 1 if first is None or first.ndim == 0 else len(first)


def can_be_cut(batch: Any) -> bool:
    """Whether a batch holds tensors that begin with its dimension, unlike some where time comes first, and no numbers.

    Labels in a list are one for each example; a text or a flag is for all of them.
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
    """The examples from `begin` up to `end` of a batch that can be cut."""
    if isinstance(batch[0], ExampleList):
        return ExampleList(batch[0][begin:end]), batch[1][begin:end]
    inputs, labels = (map_tensors(lambda tensor: tensor[begin:end], part) for part in batch)
    return inputs, labels


def in_parts(batches: Iterable[Any], parts: int) -> list[Any]:
    """Every batch cut into `parts` as equal as can be, fewer where one would hold a single example, or whole."""
    pieces: list[Any] = []
    for batch in batches:
        examples = examples_in(batch[0])
        number = min(parts, max(1, examples // 2)) if can_be_cut(batch) else 1
        ends = [round(examples * part / number) for part in range(number + 1)]
        pieces += [cut(batch, *bounds) if number > 1 else batch for bounds in pairwise(ends)]
    return pieces
