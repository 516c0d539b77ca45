"""As many examples as a criterion asks for, from any iterable of batches `(x, y)`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from autosparse.core.evidence import Batch
from autosparse.core.inputs import Inputs, can_be_cut, cut, examples_in, map_tensors, tensors_in
from autosparse.errors import UsageError
from autosparse.lazy import torch


class Examples:
    """The first batches of an iterable, fetched when they are asked for and kept.

    Every round of a method looks at the same examples, so an iterator that gives each batch once serves many
    rounds, and one without end serves too. Tensors are moved to `device`; low precision is raised to float32,
    as scoring does with the network.
    """

    def __init__(self, batches: Iterable[Any] | None, device: torch.device) -> None:
        self.batches = batches
        self.device = device
        self._fetched: list[Batch] = []
        self._source: Iterator[Any] | None = None

    def draw(self, images: int) -> list[Batch]:
        """Batches of `images` examples together: all there are if a set is smaller than that.

        The last batch is cut to fit where all its tensors begin with the batch's dimension, though never to
        one example beside others. Raises UsageError when there is nothing to fetch or an iterator runs out.
        """
        drawn: list[Batch] = []
        missing = images
        while missing > 0 and (batch := self._batch(len(drawn), images, images - missing)) is not None:
            drawn.append(_cut(batch, max(missing, 2 if drawn else 1)))
            missing -= examples_in(drawn[-1][0])
        return drawn

    def example(self) -> Inputs:
        """The inputs of the first batch, cut to one example."""
        batch = self._batch(0, 1, 0)
        assert batch is not None
        inputs: Inputs = _cut(batch, 1)[0]
        return inputs

    def stream(self) -> Iterator[Batch]:
        """Batches without end, to train on: the iterable from its beginning, again and again.

        An iterator, which gives each batch once, gives those that were fetched already and goes on from there.
        Raises UsageError when there is nothing to fetch or an iterator runs out.
        """
        self._batch(0, 1, 0)
        source = self.batches
        assert source is not None
        once = self._source is source
        if once:
            yield from self._fetched
        number = len(self._fetched) if once else 0
        while True:
            before = number
            for item in source:
                yield self._prepare(item, number)
                number += 1
            if once or number == before:
                raise UsageError(
                    f"`batches` ran out after {number}: an iterator gives each batch once",
                    "pass a list or a DataLoader, which can be gone through again, or set the schedule's `steps`",
                )

    def _batch(self, index: int, images: int, seen: int) -> Batch | None:
        if index < len(self._fetched):
            return self._fetched[index]
        if self.batches is None:
            raise UsageError(
                "the criterion looks at examples, or at their shape, but there are no batches",
                "pass `batches`, such as a DataLoader that gives `(x, y)`",
            )
        if self._source is None:
            try:
                self._source = iter(self.batches)
            except TypeError:
                raise UsageError(
                    f"`batches` must be an iterable of `(x, y)` but is {type(self.batches).__name__}",
                    "pass a DataLoader, or a list such as `[(x, y)]`",
                ) from None
        try:
            item = next(self._source)
        except StopIteration:
            if not self._fetched:
                raise UsageError("`batches` is empty", "an iterator that was used up gives nothing more") from None
            if self._source is self.batches:
                raise UsageError(
                    f"`batches` ran out after {seen} of {images} examples: an iterator gives each batch once",
                    "pass a list or a DataLoader, which may be smaller, or set the criterion's `images`",
                ) from None
            return None
        self._fetched.append(self._prepare(item, index))
        return self._fetched[-1]

    def _prepare(self, item: Any, index: int) -> Batch:
        if not isinstance(item, tuple | list) or len(item) != 2:
            size = f" of {len(item)}" if isinstance(item, tuple | list) else ""
            raise UsageError(
                f"batch {index} must be a pair `(x, y)` but is {type(item).__name__}{size}",
                "a single batch is `[(x, y)]`; several inputs go into x, by position `((first, second), y)` or by name",
            )
        if not any(True for _ in tensors_in(item[0])):
            raise UsageError(
                f"x of batch {index} must be a tensor, or several in a tuple, list or mapping, but is "
                f"{type(item[0]).__name__}",
                "convert it with `torch.as_tensor`",
            )
        if examples_in(item[0]) == 0:
            raise UsageError(f"batch {index} holds no example", "leave empty batches out")
        inputs, labels = (map_tensors(self._ready, part) for part in item)
        return inputs, labels

    def _ready(self, tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.detach().to(self.device)
        if tensor.is_inference():  # made in inference mode, which no gradient can pass
            tensor = tensor.clone()
        return tensor.float() if tensor.is_floating_point() and tensor.itemsize < 4 else tensor


def _cut(batch: Batch, count: int) -> Batch:
    return batch if count >= examples_in(batch[0]) or not can_be_cut(batch) else cut(batch, 0, count)
