"""Example of a network's inputs: on the CPU, named after the arguments of the forward pass, with their outputs."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import Any

from autosparse.api.batches import Signature as Arguments
from autosparse.api.batches import without_labels
from autosparse.core.inputs import (
    Inputs,
    arguments,
    call,
    can_be_cut,
    examples_in,
    leaves,
    map_tensors,
    plain,
    resized,
    tensors_in,
)
from autosparse.errors import OwnCodeError, UsageError
from autosparse.exporters.signature import BATCH, CHANNELS, INPUT, OUTPUT, Preprocessing, Signature, TensorSpec
from autosparse.foreign_code import foreign_code, printing_to_stderr
from autosparse.lazy_torch import torch
from autosparse.text import plural, with_article

_CHECKED = (1, 7)  # batch sizes of the verification, in addition to the example's
_HINT = "it is a tensor `[batch, ...]`, or several in a tuple or a mapping, as the network takes them"


@dataclass(frozen=True)
class Example:
    """Inputs of a network, and its outputs for them.

    Attributes:
        inputs: Tensors on the CPU; a mapping is in the order of the network's arguments.
        outputs: Tensors of the outputs, in order.
        input_names: Name of each tensor in `inputs`: `images` for a classifier of images, else the argument.
        output_names: Name of each output: `logits` for that classifier, else the key of a mapping or a number.
        shapes: Shape of each output, in which `batch` follows the number of examples.
        fixed: Error of the network for batches of other sizes; empty if it takes them.
    """

    inputs: Inputs
    outputs: tuple[torch.Tensor, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    shapes: tuple[tuple[str | int, ...], ...]
    fixed: str = ""

    @classmethod
    def of(cls, network: torch.nn.Module, inputs: Any) -> Example:
        """Run a network on inputs.

        Args:
            network: Network in evaluation mode, on the CPU, in float32 or float64.
            inputs: Inputs as `prune` takes them, with or without labels in a mapping.

        Returns:
            The inputs, and the network's outputs for them.

        Raises:
            UsageError: If no format has such inputs or outputs.
            OwnCodeError: If the network does not run on them.
        """
        inputs = _ordered(network, without_labels(_prepared(network, inputs), Arguments(network)))
        outputs = outputs_of(network, inputs)
        kind = type(network).__name__
        if odd := [leaf for leaf in leaves(outputs) if not isinstance(leaf, torch.Tensor) and leaf is not None]:
            raise UsageError(
                f"{kind} returns {with_article(type(odd[0]).__name__)}, but exported models return tensors alone",
                "export a module that calls the network and returns its tensors, in a tuple or a mapping",
            )
        parts = tuple(tensors_in(outputs))
        if not parts:
            raise UsageError(f"{kind} returns no tensor for `example`", "return the outputs from its forward pass")
        if any(part.is_floating_point() and bool(part.isnan().any()) for part in parts):
            raise UsageError(f"{kind} returns NaN for `example`", "export weights from before the training diverged")
        keyed = outputs if isinstance(outputs, Mapping) else {"output": outputs}
        others, fixed = _tried(network, inputs)
        shapes = tuple(_shapes({examples_in(inputs): parts, **others}))
        made = cls(inputs, parts, (INPUT,), (OUTPUT,), shapes, fixed)
        used = set(network.state_dict())  # ONNX has one namespace
        if made.is_of_images and not used & {INPUT, OUTPUT}:
            return made
        names = [name for key, inner in keyed.items() for name in _named(inner, str(key))]
        return replace(
            made,
            input_names=tuple(_unique(_parameters(network, inputs), "input", used)),
            output_names=tuple(_unique(names, "output", used)),
        )

    def batches(self) -> list[Inputs]:
        """Return the inputs, and batches of them of other sizes if the network takes these.

        Returns:
            The batches that a verification compares.
        """
        return [self.inputs, *([] if self.fixed else _others(self.inputs))]

    @property
    def is_of_images(self) -> bool:
        """True for one batch of images, `[batch, channels, height, width]`, and one output, `[batch, classes]`."""
        images = self.inputs
        is_batch = isinstance(images, torch.Tensor) and images.is_floating_point() and images.ndim == 4
        return is_batch and len(self.shapes) == 1 and len(self.shapes[0]) == 2 and self.shapes[0][0] == BATCH

    def signature(
        self, class_names: tuple[str, ...], images: Preprocessing | None, *, labelled: bool = False
    ) -> Signature:
        """Return the signature for a server.

        Args:
            class_names: Names in the order of the outputs' second side; empty for numbers.
            images: Preprocessing of a picture, if known.
            labelled: Whether the examples have labels.

        Returns:
            Names, shapes and types of inputs and outputs, with class names and preprocessing.

        Raises:
            UsageError: If the names or the preprocessing are of other outputs or inputs.
        """
        first = self.outputs[0]
        classes = first.shape[1] if first.ndim > 1 else 0
        if class_names and len(class_names) != classes:
            raise UsageError(
                f"`class_names` has {plural(len(class_names), 'name')}, but the output is {_shape(first)}",
                "name each class, in the order of the outputs",
            )
        if images is not None:
            shape = tuple(next(tensors_in(self.inputs)).shape[1:])
            if not self.is_of_images or (len(images.mean), *images.size) != shape or len(images.std) != shape[0]:
                size = " x ".join(map(str, (len(images.mean), *images.size)))
                raise UsageError(
                    f"`preprocessing` gives images of {size}, but the network takes {' x '.join(map(str, shape))}",
                    "`size` is [height, width], and `mean` and `std` have a number for each channel",
                )
            if images.channels not in (None, CHANNELS.get(shape[0])):
                raise UsageError(
                    f"`preprocessing` gives {images.channels} pictures, but the network takes "
                    f"{plural(shape[0], 'channel')}",
                    "`channels` is RGB for 3 channels, L for 1, and None for others",
                )
        inputs = tuple(tensors_in(self.inputs))
        batches = [(BATCH, *tensor.shape[1:]) for tensor in inputs]
        is_classifier = self.is_of_images and (labelled or images is not None or bool(class_names))
        return Signature(
            class_names or (tuple(map(str, range(classes))) if is_classifier else ()),
            tuple(map(_spec, self.input_names, batches, inputs)),
            tuple(map(_spec, self.output_names, self.shapes, self.outputs)),
            images,
            **({} if is_classifier else {"task": None}),
        )


def outputs_of(network: torch.nn.Module, inputs: Inputs) -> Any:
    """Return a network's outputs.

    Args:
        network: Network in evaluation mode.
        inputs: Its inputs.

    Returns:
        Outputs of any structure, without gradients.

    Raises:
        OwnCodeError: If its code fails; the message has the file and line.
    """
    doing = f"calling `{type(network).__name__}` on `example`"
    with foreign_code(doing, network), torch.no_grad(), printing_to_stderr():
        return plain(call(network, map_tensors(torch.clone, inputs)))  # a network may change its inputs in place


def _others(inputs: Inputs) -> list[Inputs]:
    return [resized(inputs, size) for size in _CHECKED if size != examples_in(inputs)]


def _tried(network: torch.nn.Module, inputs: Inputs) -> tuple[dict[int, tuple[torch.Tensor, ...]], str]:
    # Outputs for batches of other sizes, or the error that they raise.
    try:
        return {examples_in(batch): tuple(tensors_in(outputs_of(network, batch))) for batch in _others(inputs)}, ""
    except OwnCodeError as error:
        return {}, error.message


def _shapes(outputs: Mapping[int, Sequence[torch.Tensor]]) -> Iterator[tuple[str | int, ...]]:
    # Shape of each output by its shapes for several batch sizes; the first of these is the example's.
    alike = len({tuple(tensor.ndim for tensor in parts) for parts in outputs.values()}) == 1
    known = outputs if alike else dict([*outputs.items()][:1])

    def side(sizes: Sequence[int], axis: int) -> str | int:
        if sizes == [*known] and (len(known) > 1 or axis == 0):
            return BATCH
        return sizes[0] if len({*sizes}) == 1 else f"depends on {BATCH}"

    for several in zip(*known.values(), strict=True):
        by_axis = zip(*(tensor.shape for tensor in several), strict=True)
        yield tuple(side([*sizes], axis) for axis, sizes in enumerate(by_axis))


def _prepared(network: torch.nn.Module, inputs: Any) -> Inputs:
    # Tensors on the CPU, low precision raised as the network's.
    def ready(tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.detach().cpu().clone()
        low = tensor.is_floating_point() and tensor.itemsize < 4
        return tensor.float() if low else tensor

    if not any(True for _ in tensors_in(inputs)):
        raise UsageError(f"`example` holds no tensor but is {type(inputs).__name__}", _HINT)
    if not can_be_cut((inputs, None)):
        odd = [leaf for leaf in leaves(inputs) if not isinstance(leaf, torch.Tensor | str | bool | None)]
        shapes = ", ".join(_shape(tensor) for tensor in tensors_in(inputs))
        why = f"holds {with_article(type(odd[0]).__name__)}" if odd else f"has tensors of {shapes}"
        raise UsageError(f"`example` {why}, but every input must be a tensor that begins with the batch", _HINT)
    if examples_in(inputs) == 0:
        raise UsageError("`example` is an empty batch", "give at least one example")
    if type(inputs) is list and Arguments(network).lists_examples(inputs):
        raise UsageError(
            f"{type(network).__name__} takes a list of examples, which no format has",
            "export the part of it that takes a batch, such as a detector's backbone",
        )
    made: Inputs = plain(map_tensors(ready, inputs))
    return made


def _ordered(network: torch.nn.Module, inputs: Inputs) -> Inputs:
    # Exporters record a mapping in the order of the arguments.
    if not isinstance(inputs, Mapping):
        return inputs
    known = [*_signature(network)]
    return dict(sorted(inputs.items(), key=lambda item: known.index(item[0]) if item[0] in known else len(known)))


def _signature(network: torch.nn.Module) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(network.forward).parameters
    except (TypeError, ValueError):  # implemented in C, or scripted
        return {}


def _parameters(network: torch.nn.Module, inputs: Inputs) -> Iterator[str]:
    positional, named = arguments(inputs)
    names = [
        name
        for name, one in _signature(network).items()
        if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    for index, part in enumerate(positional):
        yield from _named(part, names[index] if index < len(names) else f"input_{index}")
    for name, part in named.items():
        yield from _named(part, name)


def _named(value: Any, name: str) -> Iterator[str]:
    # A name for each tensor: `name`, or with the keys and numbers below it.
    if isinstance(value, torch.Tensor):
        yield name
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _named(inner, f"{name}_{key}")
    elif isinstance(value, tuple | list):
        for index, inner in enumerate(value):
            yield from _named(inner, f"{name}_{index}")


def _unique(names: Iterable[str], kind: str, used: set[str]) -> Iterator[str]:
    # Names that are not in use, which they are from now on.
    for name in names:
        others = (f"{name}_{kind}{number or ''}" for number in count())
        chosen = next(one for one in chain((name,), others) if one not in used)
        used.add(chosen)
        yield chosen


def _spec(name: str, shape: tuple[str | int, ...], tensor: torch.Tensor) -> TensorSpec:
    layout = {INPUT: "NCHW", OUTPUT: "NC"}.get(name, "") if tensor.ndim in (2, 4) else ""
    return TensorSpec(name, shape, layout, str(tensor.dtype).removeprefix("torch."))


def _shape(tensor: torch.Tensor) -> str:
    return str([*tensor.shape])
