"""Exported model: the masked copy of a network in one format, verified after a reload, timed, with a card."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from autosparse.api.example import Example, outputs_of
from autosparse.api.hold import copy_of
from autosparse.core.graph.shrink import CLOSE
from autosparse.core.graph.slicing import Slicing
from autosparse.core.inputs import Inputs, call, examples_in, in_parts, tensors_in
from autosparse.core.torch_compat.random_state import seeded
from autosparse.core.weights import Tensors, state_of, total_of
from autosparse.core.weights import kept as kept_of
from autosparse.errors import AutosparseError
from autosparse.exporters import (
    BATCHES,
    EAGER,
    Function,
    Model,
    Patience,
    Speed,
    bytes_of,
    calibrates,
    card_fields,
    is_lossy,
    measure_speed,
    open_model,
    runtime_of,
)
from autosparse.exporters.quantization import AT_ONCE, damage, loses_accuracy
from autosparse.exporters.signature import Signature
from autosparse.lazy_torch import torch
from autosparse.packaged import __version__
from autosparse.planning.builder import tag_of
from autosparse.spec.choices import Choice
from autosparse.steps.verify_export import outputs_elsewhere
from autosparse.store import dump_tensors
from autosparse.text import plural, size

CARD = "card.json"
_MEASURED = ("bytes", "dense_bytes", "max_abs_error", "max_rel_error", "speeds", "notes")
_SMALL = 1e-3  # outputs below it count as rounding errors of larger values inside the network
_FEW = 100  # examples of a calibration: fewer miss the range of activations
_ROUNDED = 2.0**-7  # relative error of weights that a format rounds


@dataclass(frozen=True)
class Exported:
    """Exported model, verified and timed.

    Attributes:
        path: Folder of the model and its card.
        format: Name of the format, with the options that are not defaults.
        bytes: Size of the model's files in bytes, without the card.
        dense_bytes: Size of the dense network's tensors in bytes.
        kept: Number of kept weights.
        total: Number of prunable weights.
        max_abs_error: Largest difference of an output after a reload.
        max_rel_error: The same, relative to the largest output.
        accuracy: Accuracy in percent on the example, after a reload; None without labels.
        speeds: Batch size -> latencies and speed-up; empty if not timed.
        notes: Deviations from the request, one sentence each.
    """

    path: Path
    format: str
    bytes: int
    dense_bytes: int
    kept: int
    total: int
    max_abs_error: float
    max_rel_error: float
    accuracy: float | None = None
    speeds: Mapping[str, Speed] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the path and format on a line, then sizes, errors and latencies, then the notes."""
        lines = [
            f"{self.path}: {self.format}, {size(self.bytes)} (dense {size(self.dense_bytes)})",
            f"{self.kept:,} of {self.total:,} weights kept, max abs error {self.max_abs_error:.2g}"
            + ("" if self.accuracy is None else f", accuracy {self.accuracy:.2f} %"),
        ]
        for count, speed in self.speeds.items():
            ratio = f", {speed.speedup.median:.2f} times as fast as dense" if speed.stable and speed.speedup else ""
            lines.append(f"batch of {count}: {speed.emitted_ms.median:.3g} ms{ratio}")
        return "\n  ".join([*lines, *(f"note: {note}" for note in self.notes)])


@dataclass(frozen=True)
class Subject:
    """Network to export.

    Attributes:
        network: Masked copy on the CPU, in evaluation mode.
        masks: Prunable weight -> bool tensor of its shape, True for kept weights.
        example: Inputs and outputs of the copy.
        calibration: Inputs that quantized formats calibrate on.
        signature: Names and preprocessing for a server.
        labels: Class of each example or position, or None.
        notes: Deviations from the request.
        timed: Whether to measure latencies.
        slicing: Smaller network that masks of whole channels leave.
        memo: Intermediate results that the formats share.
    """

    network: torch.nn.Module
    masks: Tensors
    example: Example
    calibration: Inputs
    signature: Signature
    labels: torch.Tensor | None = None
    notes: tuple[str, ...] = ()
    timed: bool = True
    slicing: Slicing | None = None
    memo: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def about(self) -> dict[str, Any]:
        """Return the content of a card that all formats share.

        Returns:
            JSON data: signature, class of the network, sparsity, kept weights of each layer, environment.
        """
        layers = [{"name": name, "kept": int(mask.sum()), "size": mask.numel()} for name, mask in self.masks.items()]
        kept, total = sum(kept_of(self.masks).values()), total_of(self.masks)
        kind, accuracy = type(self.network), _accuracy(self.example.outputs, self.labels)
        measured = {"example_accuracy": accuracy, "examples": examples_in(self.example.inputs)}
        return {
            **card_fields(self.signature),
            "network_class": f"{kind.__module__}.{kind.__qualname__}",
            "sparsity": 1 - kept / total if total else 0.0,
            "accuracy": {
                **({} if accuracy is None else measured),
                "kept": kept,
                "total": total,
                "layers": layers,
            },
            "environment": {"autosparse": __version__, "python": platform.python_version(), "torch": version("torch")},
        }


def write(subject: Subject, choice: Choice, folder: Path) -> Exported:
    """Write a format's files and `card.json` to a folder; read them again, compare and time.

    Args:
        subject: Network to export.
        choice: Format with its options.
        folder: Folder, created if it does not exist.

    Returns:
        The exported model.

    Raises:
        AutosparseError: If the network has no model of the format, or its outputs differ after a reload.
    """
    folder.mkdir(exist_ok=True)
    about, network, tag = subject.about(), subject.network, tag_of(choice)
    parts = -(-examples_in(subject.calibration) // AT_ONCE)
    model = Model(
        state_of(network),
        subject.masks,
        partial(copy_of, network),
        inputs=subject.example.inputs,
        signature=subject.signature,
        about=about,
        slicing=subject.slicing,
        calibration=lambda: [inputs for inputs, _ in in_parts([(subject.calibration, ())], parts)],
        memo=subject.memo,
    )
    if subject.example.fixed and "run" in choice.entry.facts:
        problem = f"{type(network).__name__} has no {choice.name} model, which takes any batch size"
        raise AutosparseError(f"{problem}: {subject.example.fixed}", "use `x.shape[0]` in its code, not a number")
    files, notes = _files(model, choice, type(network).__name__)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    opened = None if "run" in choice.entry.facts else _opened(network, choice.name, folder, files)
    error, relative, outputs = _verified(subject, choice, folder, opened)
    notes += (*_calibration_notes(subject, choice), *_accuracy_notes(about["accuracy"], outputs, subject.labels))
    speeds = _speeds(model, choice.name, files, opened, network) if subject.timed and not subject.example.fixed else {}
    result = Exported(
        path=folder,
        format=tag,
        bytes=bytes_of(choice.name, {name: len(data) for name, data in files.items()}),
        dense_bytes=len(dump_tensors(model.state)),
        kept=about["accuracy"]["kept"],
        total=about["accuracy"]["total"],
        max_abs_error=error,
        max_rel_error=relative,
        accuracy=_accuracy(outputs, subject.labels),
        speeds=speeds,
        notes=(*subject.notes, *notes),
    )
    if result.accuracy is not None:  # of rounded weights too
        about["accuracy"]["example_accuracy"] = result.accuracy
    card = {
        "format": choice.name,
        **({"options": options} if (options := choice.options()) else {}),
        **about,
        "files": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in files.items()
        },
        "measured": {name: value for name, value in asdict(result).items() if name in _MEASURED},
    }
    (folder / CARD).write_text(json.dumps(card, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return result


def _files(model: Model, choice: Choice, kind: str) -> tuple[dict[str, bytes], tuple[str, ...]]:
    # Dead channels stay, with a note, in a network without a smaller form; unless it is asked for.
    options, write_files = choice.options(), choice.entry.function
    may_keep = "shrink" in options and "shrink" not in choice.model_fields_set
    try:
        return write_files(model, **options), ()
    except ValueError as error:
        reason = str(error)
    if may_keep:
        try:
            return write_files(model, **{**options, "shrink": False}), (f"dead channels remain: {reason}",)
        except ValueError as error:
            reason = str(error)
    raise AutosparseError(f"{kind} has no {choice.name} model: {reason}", "`safetensors` and `compact` fit any network")


def _opened(network: torch.nn.Module, format: str, folder: Path, files: Mapping[str, bytes]) -> torch.nn.Module:
    # The model in a copy of the network, whose weights are NaN before.
    blank = copy_of(network)
    with torch.no_grad():
        for tensor in state_of(blank).values():
            tensor.fill_(torch.nan if tensor.is_floating_point() or tensor.is_complex() else 0)
    read = {name: (folder / name).read_bytes() for name in files}
    try:
        opened: Any = open_model(format, read, blank)
    except (ValueError, RuntimeError) as error:
        raise _differs(format, " ".join(str(error).split())) from error
    return opened  # type: ignore[no-any-return]


def _verified(
    subject: Subject, choice: Choice, folder: Path, opened: torch.nn.Module | None
) -> tuple[float, float, list[torch.Tensor]]:
    # The largest error, the largest relative to the outputs, and the outputs for the example.
    batches = subject.example.batches()
    if opened is None:
        try:
            every = outputs_elsewhere(folder, choice.name, batches)
        except ValueError as error:
            raise AutosparseError(f"the {choice.name} model is of no use: {error}") from error
    else:
        every = [[*tensors_in(_repeatable(opened, batch))] for batch in batches]
    largest, relative = 0.0, 0.0
    for batch, outputs in zip(batches, every, strict=True):
        expected = [*tensors_in(_repeatable(subject.network, batch))]
        if [tensor.shape for tensor in outputs] != [tensor.shape for tensor in expected]:
            shapes = ", ".join(str([*tensor.shape]) for tensor in outputs)
            raise _differs(choice.name, f"its outputs for {plural(examples_in(batch), 'example')} are {shapes}")
        for one, other in zip(expected, outputs, strict=True):
            difference, highest = _difference(one, other)
            largest, relative = max(largest, difference), max(relative, difference / highest)
    if is_lossy(choice.name, choice.options()):
        if reason := _damage(subject, every[0], largest):
            raise _differs(choice.name, reason)
        return largest, relative, every[0]
    rounded = opened is not None and choice.entry.facts["exact"] and _is_rounded(subject.network, opened)
    if relative > CLOSE and not rounded:
        raise _differs(choice.name, f"its outputs differ by {largest:.2g}", _hint(subject))
    return largest, relative, every[0]


def _damage(subject: Subject, outputs: Sequence[torch.Tensor], largest: float) -> str:
    # The reason why a quantized model is of no use, if any.
    if largest == torch.inf:
        return "its outputs are not finite"
    pairs = zip(subject.example.outputs, outputs, strict=True)
    labels = [subject.labels, *[None] * len(outputs)]
    reasons = (damage(one, other, known) for (one, other), known in zip(pairs, labels, strict=False) if one.numel())
    return next(filter(None, reasons), "")


def _calibration_notes(subject: Subject, choice: Choice) -> Iterator[str]:
    given = examples_in(subject.calibration)
    if calibrates(choice.name, choice.options()) and given < _FEW:
        yield f"calibrated on {plural(given, 'example')}: pass {_FEW} or more of the training data as `calibration`"


def _accuracy_notes(known: Mapping[str, Any], outputs: Sequence[torch.Tensor], labels: Any) -> Iterator[str]:
    after, before = _accuracy(outputs, labels), known.get("example_accuracy")
    if after is not None and before is not None and loses_accuracy(before, after):
        yield f"accuracy on the example falls from {before:.2f} % to {after:.2f} %"


def _repeatable(network: torch.nn.Module, inputs: Inputs, seed: int = 0) -> Any:
    with seeded(seed):
        return outputs_of(network, inputs)


def _difference(expected: torch.Tensor, actual: torch.Tensor) -> tuple[float, float]:
    # The largest difference, infinite for NaN, and the largest finite output.
    if not expected.numel():
        return 0.0, 1.0
    one, other = expected.double(), actual.double()
    error = torch.where(one == other, 0.0, (one - other).abs()).nan_to_num(torch.inf, torch.inf)
    return float(error.max()), max(_SMALL, float(one.abs().nan_to_num(0, 0, 0).max()))


def _is_rounded(network: torch.nn.Module, opened: torch.nn.Module) -> bool:
    # Whether weights differ from the network's by the rounding of the format, and by no more.
    state, stored = state_of(network), state_of(opened)
    same = all(torch.equal(tensor, stored[name]) for name, tensor in state.items())
    near = (torch.allclose(stored[name], tensor, rtol=_ROUNDED, atol=1e-6) for name, tensor in state.items())
    return not same and all(near)


def _hint(subject: Subject) -> str | None:
    first, second = (_repeatable(subject.network, subject.example.inputs, seed) for seed in (0, 1))
    if all(map(torch.equal, tensors_in(first), tensors_in(second))):
        return None
    return "the network draws random numbers in evaluation mode: pass `training=self.training` to `dropout`"


def _differs(format: str, reason: str, hint: str | None = None) -> AutosparseError:
    return AutosparseError(f"the {format} model is not that of the network after a reload: {reason}", hint)


def _accuracy(outputs: Sequence[torch.Tensor], labels: torch.Tensor | None) -> float | None:
    return None if labels is None else 100 * float((outputs[0].argmax(dim=1) == labels).double().mean())


def _speeds(
    model: Model, format: str, files: Mapping[str, bytes], opened: torch.nn.Module | None, network: torch.nn.Module
) -> dict[str, Speed]:
    # Against the dense network in the same runtime, which is as fast with zeros as with other weights.
    runtime = runtime_of(format)
    eager: Function = partial(call, network)
    emitted = open_model(format, files, None) if opened is None else partial(call, opened)
    dense: Function | None = eager if runtime is EAGER else _dense(model, format, network)
    patience = Patience()
    return {
        str(count): measure_speed(emitted, dense, eager, model.example(count), patience=patience) for count in BATCHES
    }


def _dense(model: Model, format: str, network: torch.nn.Module) -> Function | None:
    write_dense = runtime_of(format).dense
    assert write_dense is not None
    try:
        dense = open_model(format, write_dense(replace(model, masks={})), copy_of(network))
    except ValueError:
        return None
    return partial(call, dense) if isinstance(dense, torch.nn.Module) else dense
