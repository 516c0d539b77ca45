"""As many examples as a criterion asks for, from any iterable of batches `(x, y)`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from autosparse.api.batch import Signature, as_batch, without_labels
from autosparse.core.evidence import Batch
from autosparse.core.foreign_code import foreign_code
from autosparse.core.inputs import Inputs, can_be_cut, cut, examples_in, map_tensors
from autosparse.core.torch_compat.random_state import Generators, seed_of
from autosparse.errors import OwnCodeError, UsageError
from autosparse.lazy_torch import torch

_END = object()


class Examples:
    """The first batches of an iterable, fetched when they are asked for and kept.

    Every round of a method looks at the same examples, so an iterator that gives each batch once serves many
    rounds, and one without end serves too. Tensors are moved to `device`; low precision is raised to float32,
    as scoring does with the network. What the iterable draws from global generators, as a loader that shuffles does,
    begins at `seed` and does not depend on what the network draws. A batch of one example after larger ones, as a
    loader's last may be, is left out: BatchNorm has no statistics of one.
    """

    def __init__(
        self, batches: Iterable[Any] | None, device: torch.device, signature: Signature, *, seed: int = 0
    ) -> None:
        self.batches = batches
        self.device = device
        self._signature = signature
        self._generators = Generators(seed_of("examples", seed))
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
        return without_labels(_cut(batch, 1)[0], self._signature)

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
            for item in self._drawn(source):
                number += 1
                if not _is_leftover(batch := self._prepare(item, number - 1), self._fetched[0]):
                    yield batch
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
                with self._generators, reading():
                    self._source = iter(self.batches)
            except OwnCodeError as error:
                if not isinstance(error.__cause__, TypeError) or hasattr(type(self.batches), "__iter__"):
                    raise
                raise UsageError(
                    f"`batches` must be an iterable of `(x, y)` but is {type(self.batches).__name__}",
                    "pass a DataLoader, or a list such as `[(x, y)]`",
                ) from None
        item = next(self._drawn(self._source), _END)
        while item is not _END and index and _is_leftover(self._prepare(item, index), self._fetched[0]):
            item = next(self._drawn(self._source), _END)
        if item is _END:
            if not self._fetched:
                raise UsageError("`batches` is empty", "an iterator that was used up gives nothing more")
            if self._source is self.batches:
                raise UsageError(
                    f"`batches` ran out after {seen} of {images} examples: an iterator gives each batch once",
                    "pass a list or a DataLoader, which may be smaller, or set the criterion's `images`",
                )
            return None
        self._fetched.append(self._prepare(item, index))
        return self._fetched[-1]

    def _drawn(self, source: Iterable[Any]) -> Iterator[Any]:
        # What the iterable gives, its random numbers apart from the network's.
        with self._generators, reading():
            iterator = iter(source)
        while True:
            with self._generators, reading():
                item = next(iterator, _END)
            if item is _END:
                return
            yield item

    def _prepare(self, item: Any, index: int) -> Batch:
        inputs, labels = as_batch(item, index, self._signature)
        return map_tensors(self._ready, inputs), map_tensors(self._ready, labels)

    def _ready(self, tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.detach().to(self.device)
        if tensor.is_inference():  # made in inference mode, which no gradient can pass
            tensor = tensor.clone()
        return tensor.float() if tensor.is_floating_point() and tensor.itemsize < 4 else tensor


def _cut(batch: Batch, count: int) -> Batch:
    return batch if count >= examples_in(batch[0]) or not can_be_cut(batch) else cut(batch, 0, count)


def _is_leftover(batch: Batch, first: Batch) -> bool:
    return can_be_cut(batch) and examples_in(batch[0]) == 1 < examples_in(first[0])


def reading() -> AbstractContextManager[None]:
    """Return the context in which batches are read: errors of a dataset become an OwnCodeError with file and line."""
    return foreign_code("reading `batches`")
