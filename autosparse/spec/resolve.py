"""What `auto` and the unsaid mean on a machine: a spec with every choice written out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from autosparse.backends import Machine
from autosparse.spec.document import Document, Path
from autosparse.spec.pretrained import Pretrained
from autosparse.spec.sections import Irp, Spec, Training

_AUTO = (
    ("irp", "training", "precision"),
    ("target", "device"),
    ("target", "threads"),
    ("training", "precision"),
    ("tuning", "options"),
)
_AS_THE_SPECS = ("model", "dataset", "training")


def resolve(spec: Spec, machine: Machine) -> Spec:
    """Write out `auto` and what defaults to another section. Equal keys come of the result."""
    device = machine.devices[0] if spec.target.device == "auto" else spec.target.device
    threads = machine.cores if spec.target.threads == "auto" else spec.target.threads
    precision = "bfloat16" if machine.bfloat16(device) else "float32"
    training = _with_precision(spec.training, precision)
    tuned = spec.tuning.options
    if isinstance(spec.scorer, Pretrained):
        tuned = () if tuned == "auto" else tuned
    elif tuned == "auto":
        tuned = tuple(
            name
            for name, option in spec.scorer.entry.options.items()
            if option.tunable and name not in spec.scorer.model_fields_set
        )
    irp: Irp = spec.irp.model_copy(
        update={
            "model": spec.irp.model or spec.model,
            "dataset": spec.irp.dataset or spec.dataset,
            "training": _with_precision(spec.irp.training or training, precision),
        }
    )
    return spec.model_copy(
        update={
            "target": spec.target.model_copy(update={"device": device, "threads": threads}),
            "training": training,
            "irp": irp,
            "tuning": spec.tuning.model_copy(update={"options": tuned}),
        }
    )


def provenance(resolved: dict[str, Any], document: Document) -> dict[str, str]:
    """Dotted path of every value in a resolved spec -> where it was written, `auto`, `as ...` or `default`."""
    found: dict[str, str] = {}

    def walk(value: Any, path: Path) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, (*path, key))
        else:
            found[".".join(map(str, path))] = _origin(path, document)

    walk(resolved, ())
    return found


def _origin(path: Path, document: Document) -> str:
    whole = path[:2] == ("irp", "training") and not _is_written(path[:2], document)  # the spec's own
    if path in _AUTO and not whole and _at(document.data, path) in ("auto", None):
        return "auto"
    written = max((n for n in range(1, len(path) + 1) if _is_written(path[:n], document)), default=0)
    # A preset or a choice by name stands for all its values; a mapping only for the ones written in it.
    if written == len(path) or (written and not isinstance(_at(document.data, path[:written]), dict)):
        return str(document.values[path[:written]])
    return f"as `{path[1]}`" if path[:1] == ("irp",) and path[1] in _AS_THE_SPECS and written < 2 else "default"


def _is_written(path: Path, document: Document) -> bool:
    # In `irp`, null means the spec's own, as silence does.
    null = path[:1] == ("irp",) and path[1:] and path[1] in _AS_THE_SPECS and _at(document.data, path[:2]) is None
    return path in document.values and not null


def _with_precision(training: Training, precision: str) -> Training:
    if training.precision != "auto":
        return training
    if hasattr(training, "model_copy"):
        copy: Training = training.model_copy(update={"precision": precision})
        return copy
    return replace(training, precision=precision)  # type: ignore[arg-type]


def _at(data: Any, path: Path) -> Any:
    for step in path:
        if not isinstance(data, dict) or step not in data:
            return None
        data = data[step]
    return data
