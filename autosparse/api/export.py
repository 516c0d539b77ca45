"""`export`: a network that any loop trained as a verified model, in any format."""

from __future__ import annotations

import operator
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, overload

from pydantic import Field, TypeAdapter, ValidationError

from autosparse.api.example import Example
from autosparse.api.exported import Exported, Subject, write
from autosparse.api.hold import copy_of, named_parameters, unwrap
from autosparse.api.masks import Masks
from autosparse.api.prune import isolated, validated
from autosparse.borders import border, expand, in_short
from autosparse.core.inputs import Inputs, tensors_in
from autosparse.core.weights import Tensors, full_masks, prunable_weights, state_of, without_fast_path
from autosparse.errors import UsageError
from autosparse.exporters.signature import Preprocessing
from autosparse.foreign_code import printing_to_stderr
from autosparse.lazy_torch import torch
from autosparse.planning.builder import tag_of
from autosparse.registry import suggestion
from autosparse.report.folder import is_vacant
from autosparse.spec.choices import FormatChoice
from autosparse.spec.document import plain_values
from autosparse.spec.section import Section
from autosparse.store.files import drafted_folder, writing
from autosparse.text import quoted

GivenMasks = Mapping[str, "torch.Tensor"] | str | os.PathLike[str] | None
Format = str | Mapping[str, Any]
_LABELS = "give the number of the class of each example, `[batch]`"


class _Formats(Section):
    format: tuple[FormatChoice, ...] = Field(min_length=1)


@overload
def export(
    model: torch.nn.Module,
    masks: GivenMasks,
    out: str | os.PathLike[str],
    *,
    format: Format = "onnx",
    example: Any,
    calibration: Any = None,
    labels: Any = None,
    class_names: Sequence[str] = (),
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    timed: bool = True,
) -> Exported: ...


@overload
def export(
    model: torch.nn.Module,
    masks: GivenMasks,
    out: str | os.PathLike[str],
    *,
    format: Sequence[Format],
    example: Any,
    calibration: Any = None,
    labels: Any = None,
    class_names: Sequence[str] = (),
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    timed: bool = True,
) -> tuple[Exported, ...]: ...


def export(
    model: torch.nn.Module,
    masks: GivenMasks,
    out: str | os.PathLike[str],
    *,
    format: Format | Sequence[Format] = "onnx",
    example: Any,
    calibration: Any = None,
    labels: Any = None,
    class_names: Sequence[str] = (),
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    timed: bool = True,
) -> Exported | tuple[Exported, ...]:
    """Write a network that any loop trained as a model in one or several formats, each with `card.json`.

    The model stays unchanged: masks zero the weights of a copy on the CPU, in evaluation mode, in float32 if the model
    has lower precision. ONNX and pt2 models take any batch size. Every file is read again: ONNX and pt2 in another
    process, other formats into a copy with other weights. Outputs for the example, and for batches of 1 and 7 of it,
    must agree with the copy's to 1e-4 of the largest output; otherwise nothing is written. Quantized models may lose a
    tenth of the correct examples with `labels`, else half of the outputs' norm.

    Args:
        model: Trained network. It may be compiled, parallel or an average.
        masks: Masks of `prune`, or the file of `Masks.save`; None for the network as it is, whose zeros count as
            pruned.
        out: New or empty folder, which appears whole. With several formats each has a folder inside.
        format: Format, such as `onnx`, `compact` or `{"name": "compact", "values": "float16"}`, or several.
        example: Inputs as the network takes them: a tensor `[batch, ...]`, or several in a tuple (by position) or a
            mapping (by name). Every tensor begins with the batch; other sides of exported programs are fixed.
        calibration: Inputs as in `example`, 100 or more of the training data, for `{"name": "onnx", "quantize":
            "int8"}`; by default the example.
        labels: Class of each example, `[batch]` integers, or of each position, for the accuracy in the card.
        class_names: Names of the classes, in the order of the outputs.
        preprocessing: Steps from a picture to the input, such as `{"size": (32, 32), "channels": "RGB", "mean": (0.5,
            0.5, 0.5), "std": (0.2, 0.2, 0.2)}`; with it, ONNX has a `predict.py`.
        timed: Whether to measure latencies for batches of 1 and 32, next to the dense network's.

    Returns:
        The exported model, or a tuple of one for each of several formats.

    Raises:
        UsageError: If an argument is invalid, the masks do not fit, or the folder is occupied.
        OwnCodeError: If the network does not run on the example.
        MissingExtra: If a format needs a library that is not installed.
        AutosparseError: If the network has no model of the format, or outputs differ after a reload.

    Examples:
        >>> import tempfile
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
        >>> masks = {"0.weight": torch.rand(32, 8) < 0.1}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     out = Path(folder) / "served"
        ...     exported = export(model, masks, out, format="compact", example=torch.randn(2, 8), timed=False)
        ...     sorted(path.name for path in out.iterdir())
        ['card.json', 'model.compact.safetensors']
        >>> exported.max_abs_error
        0.0
    """
    choices, several = choices_of(format)
    folder = vacant(out)
    names, steps = _class_names(class_names), _preprocessing(preprocessing)
    plain = unwrap(model)
    with isolated(plain, 0), torch.device("cpu"), without_fast_path(), printing_to_stderr():
        given = Masks.load(masks) if isinstance(masks, str | os.PathLike) else masks
        network, masked, notes = _masked(plain, given)
        sample = Example.of(network, example)
        subject = Subject(
            network,
            masked,
            sample,
            sample.inputs if calibration is None else _calibration(network, sample, calibration),
            sample.signature(names, steps, labelled=labels is not None),
            _labels(labels, sample),
            notes,
            timed,
            given.slicing if isinstance(given, Masks) else None,
        )
        with writing(folder, "name another folder"), drafted_folder(folder) as draft:
            exported = [write(subject, one, draft / tag_of(one) if several else draft) for one in choices]
    placed = tuple(replace(one, path=folder / one.path.relative_to(draft)) for one in exported)
    return placed if several else placed[0]


def _calibration(network: torch.nn.Module, example: Example, given: Any) -> Inputs:
    # Inputs for a calibration, which differ from the example in the size of the batch alone.
    inputs = Example.of(network, given).inputs
    forms = ([(tensor.shape[1:], tensor.dtype) for tensor in tensors_in(one)] for one in (example.inputs, inputs))
    if not operator.eq(*forms):
        raise UsageError("`calibration` has other shapes or types than `example`", "take both from the same data")
    return inputs


def vacant(out: Any) -> Path:
    """Return the folder of an export.

    Args:
        out: Its path.

    Returns:
        The path, which is unused or an empty folder.

    Raises:
        UsageError: If it is no path, holds something else, or is the working directory.
    """
    if not isinstance(out, str | os.PathLike):
        raise UsageError(f"`out` must be a path but is {quoted(out)}", "name a new or an empty folder")
    folder = expand(Path(out))
    if not is_vacant(folder):
        raise UsageError(f"{folder} holds something else", "name a new or an empty folder")
    if folder.is_dir() and folder.samefile(Path.cwd()):
        raise UsageError(f"{folder} is the working directory", "name a folder inside it")
    return folder


def choices_of(format: Any) -> tuple[tuple[FormatChoice, ...], bool]:
    """Return the formats of an export, and whether they are several.

    Args:
        format: A format, or a sequence.

    Returns:
        The formats with their options, and whether a sequence holds them.

    Raises:
        UsageError: If a format or an option does not exist, or one is named twice.
    """
    several = isinstance(format, Iterable) and not isinstance(format, str | Mapping)
    choices = validated(_Formats, {"format": tuple(format) if several else (format,)}).format
    if twice := [tag for tag, number in Counter(map(tag_of, choices)).items() if number > 1]:
        raise UsageError(f"`format` has `{twice[0]}` twice", "name each format once")
    return choices, several


def _masked(
    plain: torch.nn.Module, given: Mapping[str, torch.Tensor] | None
) -> tuple[torch.nn.Module, Tensors, tuple[str, ...]]:
    # A copy on the CPU with masks applied, its masks, and a note about weights that the masks change.
    if isinstance(plain, torch.jit.ScriptModule):
        raise UsageError("a scripted network has no other format", "export the network before `torch.jit.script`")
    prunable_weights(plain)  # raises for uninitialized lazy layers, which cannot be copied either
    if absent := [name for name, tensor in state_of(plain).items() if tensor.is_meta]:
        raise UsageError(f"{absent[0]} has no values: it is on the meta device", "load the trained weights first")
    network = copy_of(plain).cpu().eval()
    for tensor in (*network.parameters(), *network.buffers()):
        if not tensor.is_contiguous() and 0 in tensor.stride():
            tensor.data = tensor.contiguous()  # of `expand`, into which no state loads
    floats = [tensor for tensor in (*network.parameters(), *network.buffers()) if tensor.is_floating_point()]
    if any(tensor.itemsize < 4 for tensor in floats):
        network = network.float()
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.is_floating_point())  # frozen layers count as prunable
    weights = prunable_weights(network)
    if given is None:
        return network, {name: weight.detach() != 0 for name, weight in weights.items()}, ()
    if not isinstance(given, Mapping):
        kind = type(given).__name__
        raise UsageError(f"`masks` must be a mapping of tensors, a file or None but is {kind}", "pass those of `prune`")
    masks = Masks(given)
    before = {name: weight.detach().clone() for name, weight in named_parameters(network).items() if name in masks}
    masks.apply(network)
    changed = sum(int((weight[~masks[name].cpu()] != 0).sum()) for name, weight in before.items())
    note = f"masks zero {changed:,} weights that are not zero in the model: hold them in training with `masks.hold`"
    every = {**full_masks(weights), **{name: mask.cpu() for name, mask in masks.items()}}
    return network, every, (note,) if changed else ()


def _class_names(given: Any) -> tuple[str, ...]:
    if isinstance(given, str | bytes | Mapping | Set) or not isinstance(given, Iterable):
        raise UsageError(f"`class_names` must be a list but is {quoted(given)}", "name the classes in their order")
    names = tuple(map(str, plain_values([*given])))
    if twice := [name for name, number in Counter(names).items() if number > 1]:
        raise UsageError(f"`class_names` has `{twice[0]}` twice", "name each class once, in the order of the outputs")
    return names


def _preprocessing(given: Preprocessing | Mapping[str, Any] | None) -> Preprocessing | None:
    if given is None:
        return None
    try:
        steps = asdict(given) if isinstance(given, Preprocessing) else given
        return TypeAdapter(Preprocessing).validate_python(plain_values(steps))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        known = [one.name for one in fields(Preprocessing)]
        if first["type"] == "unexpected_keyword_argument":
            raise UsageError(
                f"`preprocessing` has no `{name}`", suggestion(name, known) or f"it has {', '.join(known)}"
            ) from None
        raise UsageError(
            f"`preprocessing`: {name + ': ' if name else ''}{first['msg']}", "it has size, channels, mean and std"
        ) from None


def _labels(given: Any, example: Example) -> torch.Tensor | None:
    if given is None:
        return None
    scores = example.outputs[0]
    with border(lambda error: UsageError(f"`labels` are no numbers: {in_short(error)}", _LABELS)):
        labels = torch.as_tensor(given).detach().cpu()
    fits = scores.ndim > 1 and labels.shape == scores.shape[:1] + scores.shape[2:] and not labels.is_floating_point()
    if not fits:
        raise UsageError(
            f"`labels` is {labels.dtype} {[*labels.shape]}, but the output is {[*scores.shape]}",
            _LABELS,
        )
    if int(labels.min()) < 0 or int(labels.max()) >= scores.shape[1]:
        raise UsageError(f"`labels` are not from 0 to {scores.shape[1] - 1}", "number the classes from 0")
    return labels
