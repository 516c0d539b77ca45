"""One batch as loaders give it (a pair, a mapping, lists of images) -> inputs and labels as a network takes them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from autosparse.core.evidence import Batch
from autosparse.core.inputs import ExampleList, Inputs, arguments, examples_in, tensors_in
from autosparse.core.weights import in_mode
from autosparse.errors import UsageError
from autosparse.lazy_torch import torch

_LABELS = ("labels", "label", "targets", "target", "y")


class Signature:
    """What the forward pass of a network takes: names of arguments, and how many by position."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self._known: bool | None = None
        try:
            parameters = [*inspect.signature(model.forward).parameters.values()]
        except (TypeError, ValueError):  # written in C, or scripted
            parameters = []
        self._parameters = {parameter.name: parameter for parameter in parameters}
        self._any_name = not parameters or any(p.kind is p.VAR_KEYWORD for p in parameters)
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        several = not parameters or any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self._least = sum(p.default is p.empty for p in positional)
        self._most = None if several else len(positional)

    def takes(self, name: str) -> bool:
        """Whether an argument of this name is accepted."""
        return self._any_name or name in self._parameters

    def needs(self, name: str) -> bool:
        """Whether an argument of this name must be given."""
        parameter = self._parameters.get(name)
        return parameter is not None and parameter.default is parameter.empty

    def lists_examples(self, inputs: list[Any]) -> bool:
        """Whether a list is one argument, as detectors take images, and not several, as collated datasets give them.

        The number of arguments decides, or else a trial: whichever way of the two the network runs.
        """
        if self._known is None:
            self._known = self._decide(inputs)
        return self._known

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
        except Exception:  # whatever the network raises: the other way is tried, and then raises it
            return False
        return True


def as_batch(item: Any, index: int, signature: Signature) -> Batch:
    """Return inputs and labels of batch `index`.

    Args:
        item: `(x, y)`, or a mapping of inputs and labels by name, as Hugging Face datasets give it. A list x is several
            inputs, or the images of a detector.
        index: The batch's number, for messages.
        signature: What the network's forward pass takes.

    Raises:
        UsageError: For what is no batch, an x without tensors, and an empty batch.
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
    """Return inputs without labels among them, where the network runs without: for passes that look at no loss."""
    if not isinstance(inputs, Mapping):
        return inputs
    named = {name: part for name, part in inputs.items() if name not in _LABELS or signature.needs(name)}
    return named or inputs


def _from_pair(item: Any, index: int) -> tuple[Any, Any]:
    if not isinstance(item, tuple | list) or len(item) != 2:
        size = f" of {len(item)}" if isinstance(item, tuple | list) else ""
        raise UsageError(
            f"batch {index} must be a pair `(x, y)` but is {type(item).__name__}{size}",
            "a single batch is `[(x, y)]`; several inputs go into x, by position `((first, second), y)` or by name",
        )
    return item[0], item[1]


def _from_mapping(item: Mapping[str, Any], index: int, signature: Signature) -> tuple[Any, Any]:
    found = [name for name in _LABELS if name in item]
    labels = item[found[0]] if found else None
    inputs = {name: part for name, part in item.items() if name not in found or signature.takes(name)}
    if unknown := [name for name in inputs if not signature.takes(name)]:
        # One tensor under the dataset's name for it goes in by position.
        if len(inputs) == 1:
            return inputs[unknown[0]], labels
        raise UsageError(
            f"batch {index} has {', '.join(f'`{name}`' for name in unknown)}, which the network's forward pass does "
            "not take",
            "give pairs `(x, y)`, or only what the network takes, and `labels`",
        )
    return inputs, labels
