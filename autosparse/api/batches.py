"""Batches from any iterable, normalized to inputs and labels, with the number of examples that a criterion needs."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from autosparse.core.evidence import Batch
from autosparse.core.inputs import ExampleList, Inputs, arguments, can_be_cut, cut, examples_in, map_tensors, tensors_in
from autosparse.core.torch_compat.random_state import Generators, seed_of
from autosparse.core.weights import in_mode
from autosparse.errors import UsageError
from autosparse.foreign_code import foreign_code
from autosparse.lazy_torch import torch

_LABELS = ("labels", "label", "targets", "target", "y")


class Signature:
    """Arguments of a network's forward pass: their names, and the number of positional ones.

    Args:
        model: Unwrapped network.

    Examples:
        >>> Signature(torch.nn.Linear(2, 1)).needs("input")
        True
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self._known: bool | None = None
        self._runs_unlabelled: bool | None = None
        try:
            parameters = [*inspect.signature(model.forward).parameters.values()]
        except (TypeError, ValueError):  # implemented in C, or scripted
            parameters = []
        self._parameters = {parameter.name: parameter for parameter in parameters}
        self._any_name = not parameters or any(p.kind is p.VAR_KEYWORD for p in parameters)
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        several = not parameters or any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self._least = sum(p.default is p.empty for p in positional)
        self._most = None if several else len(positional)

    def takes(self, name: str) -> bool:
        """Return whether the forward pass accepts an argument.

        Args:
            name: Name of the argument.

        Returns:
            True if the network has an argument of this name or takes any keyword.
        """
        return self._any_name or name in self._parameters

    def needs(self, name: str) -> bool:
        """Return whether the forward pass requires an argument.

        Args:
            name: Name of the argument.

        Returns:
            True if the argument exists and has no default.
        """
        parameter = self._parameters.get(name)
        return parameter is not None and parameter.default is parameter.empty

    def lists_examples(self, inputs: list[Any]) -> bool:
        """Return whether a list of inputs is a single argument, as for detectors.

        Args:
            inputs: Items of the list.

        Returns:
            True for a single argument, False for one argument an item: by the number of items, else by a trial pass.
        """
        if self._known is None:
            self._known = self._decide(inputs)
        return self._known

    def runs_unlabelled(self, inputs: Inputs) -> bool:
        """Return whether the network runs on inputs without its labels.

        Args:
            inputs: Inputs without labels.

        Returns:
            True if a trial pass succeeds; the result for the first inputs is kept.
        """
        if self._runs_unlabelled is None:
            self._runs_unlabelled = self._runs(inputs)
        return self._runs_unlabelled

    def _decide(self, inputs: list[Any]) -> bool:
        if self._most is not None and not self._least <= len(inputs) <= self._most:
            return True
        if self._least > 1 or all(part.ndim == 0 for part in tensors_in(inputs)):
            return False
        return not self._runs(inputs) and self._runs(ExampleList(inputs))

    def _runs(self, inputs: Inputs) -> bool:
        positional, named = arguments(inputs)
        try:
            with in_mode(self._model, training=False), torch.no_grad():
                self._model(*positional, **named)
        except Exception:  # Any error of the network: the caller tries the other form, which raises it again.
            return False
        return True


def as_batch(item: Any, index: int, signature: Signature) -> Batch:
    """Return the inputs and labels of one item of an iterable.

    Args:
        item: Pair `(x, y)`, or a mapping as in Hugging Face datasets. A list x holds several inputs, or the images of a
            detector.
        index: Number of the batch, for messages.
        signature: Arguments of the network.

    Returns:
        Inputs, and labels or None.

    Raises:
        UsageError: If the item is no batch, x holds no tensor, or the batch is empty.

    Examples:
        >>> item = {"input": torch.ones(2, 3), "label": torch.zeros(2)}
        >>> inputs, labels = as_batch(item, 0, Signature(torch.nn.ReLU()))
        >>> inputs["input"].shape, labels.shape
        (torch.Size([2, 3]), torch.Size([2]))
    """
    inputs, labels = _from_mapping(item, index, signature) if isinstance(item, Mapping) else _from_pair(item, index)
    if not any(True for _ in tensors_in(inputs)):
        raise UsageError(
            f"x of batch {index} must be a tensor, or several in a tuple, list or mapping, but is "
            f"{type(inputs).__name__}",
            "convert it with `torch.as_tensor`",
        )
    if type(inputs) is list and signature.lists_examples(inputs):
        inputs = ExampleList(inputs)
    if examples_in(inputs) == 0:
        raise UsageError(f"batch {index} holds no example", "leave empty batches out")
    return inputs, labels


def without_labels(inputs: Inputs, signature: Signature) -> Inputs:
    """Return inputs without labels, for passes that need no loss.

    Args:
        inputs: Inputs of a batch.
        signature: Arguments of the network.

    Returns:
        The inputs without labels; unchanged if the network needs them, as encoder-decoder models of transformers do.
    """
    if not isinstance(inputs, Mapping):
        return inputs
    named = {name: part for name, part in inputs.items() if name not in _LABELS or signature.needs(name)}
    return named if named and (len(named) == len(inputs) or signature.runs_unlabelled(named)) else inputs


def _from_pair(item: Any, index: int) -> tuple[Any, Any]:
    if not isinstance(item, tuple | list) or len(item) != 2:
        size = f" of {len(item)}" if isinstance(item, tuple | list) else ""
        raise UsageError(
            f"batch {index} must be a pair `(x, y)` but is {type(item).__name__}{size}",
            "a single batch is `[(x, y)]`; several inputs go into x, by position `((first, second), y)` or by name",
        )
    return item[0], item[1]


def _from_mapping(item: Mapping[str, Any], index: int, signature: Signature) -> tuple[Any, Any]:
    label_names = [name for name in _LABELS if name in item]
    labels = item[label_names[0]] if label_names else None
    inputs = {name: part for name, part in item.items() if name not in label_names or signature.takes(name)}
    if unknown := [name for name in inputs if not signature.takes(name)]:
        # The dataset's own name for a single tensor means nothing to the network: it is passed by position.
        if len(inputs) == 1:
            return inputs[unknown[0]], labels
        raise UsageError(
            f"batch {index} has {', '.join(f'`{name}`' for name in unknown)}, which the network's forward pass does "
            "not take",
            "give pairs `(x, y)`, or only what the network takes, and `labels`",
        )
    return inputs, labels


_END = object()


class Examples:
    """First batches of an iterable, fetched on demand and kept.

    Every round of a method uses the same examples. A batch of one example after larger ones, such as the last, is
    dropped: BatchNorm has no statistics of one example.

    Args:
        batches: Iterable of `(x, y)`, or None for criteria without data.
        device: Device that tensors move to; low precision is raised to float32, as scoring does with the network.
        signature: Arguments of the network.
        seed: Seed of the iterable's draws from global generators, such as shuffling: they do not depend on the network.

    Examples:
        >>> model = torch.nn.Linear(3, 2)
        >>> batches = [(torch.ones(4, 3), torch.zeros(4))] * 5
        >>> examples = Examples(batches, torch.device("cpu"), Signature(model))
        >>> [len(inputs) for inputs, labels in examples.draw(6)]
        [4, 2]
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
        """Return batches with a given number of examples in total.

        Args:
            images: Number of examples.

        Returns:
            Batches with `images` examples, or all examples of a smaller set. The last batch is cut to fit if the first
            dimension of all its tensors is the batch, but never to a single example after others.

        Raises:
            UsageError: If the iterable is empty or an iterator is exhausted.
        """
        drawn: list[Batch] = []
        missing = images
        while missing > 0 and (batch := self._batch(len(drawn), images, images - missing)) is not None:
            drawn.append(_cut(batch, max(missing, 2 if drawn else 1)))
            missing -= examples_in(drawn[-1][0])
        return drawn

    def example(self) -> Inputs:
        """Return the inputs of the first batch, cut to one example.

        Returns:
            Inputs without labels, unless the network needs them.
        """
        batch = self._batch(0, 1, 0)
        assert batch is not None
        return without_labels(_cut(batch, 1)[0], self._signature)

    def stream(self) -> Iterator[Batch]:
        """Yield batches without end, for training: the iterable restarts at its end.

        Yields:
            Inputs and labels of one batch. An iterator yields each batch once; batches fetched before come first.

        Raises:
            UsageError: If the iterable is empty or an iterator is exhausted.
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
            if not any(hasattr(type(self.batches), method) for method in ("__iter__", "__getitem__")):
                raise UsageError(
                    f"`batches` must be an iterable of `(x, y)` but is {type(self.batches).__name__}",
                    "pass a DataLoader, or a list such as `[(x, y)]`",
                )
            with self._generators, reading():
                self._source = iter(self.batches)
        for item in self._drawn(self._source):
            batch = self._prepare(item, index)
            if not index or not _is_leftover(batch, self._fetched[0]):
                self._fetched.append(batch)
                return batch
        if not self._fetched:
            raise UsageError("`batches` is empty", "an iterator that was used up gives nothing more")
        if self._source is self.batches:
            raise UsageError(
                f"`batches` ran out after {seen} of {images} examples: an iterator gives each batch once",
                "pass a list or a DataLoader, which may be smaller, or set the criterion's `images`",
            )
        return None

    def _drawn(self, source: Iterable[Any]) -> Iterator[Any]:
        # Items of the iterable; its random numbers are separate from the network's.
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
        if tensor.is_inference():  # created in inference mode, without gradients
            tensor = tensor.clone()
        return tensor.float() if tensor.is_floating_point() and tensor.itemsize < 4 else tensor


def _cut(batch: Batch, count: int) -> Batch:
    return batch if count >= examples_in(batch[0]) or not can_be_cut(batch) else cut(batch, 0, count)


def _is_leftover(batch: Batch, first: Batch) -> bool:
    return can_be_cut(batch) and examples_in(batch[0]) == 1 < examples_in(first[0])


def reading() -> AbstractContextManager[None]:
    """Return the context for reading batches.

    Returns:
        A context in which an error of a dataset becomes an OwnCodeError with file and line.
    """
    return foreign_code("reading `batches`")
