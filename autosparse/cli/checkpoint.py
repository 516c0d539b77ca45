"""Export of a checkpoint: its network and images are those of a spec, or named on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from autosparse.api import Masks, export
from autosparse.api.checkpoint import load_checkpoint
from autosparse.api.export import choices_of, vacant
from autosparse.api.runs.prepare import note_user_code
from autosparse.backends import Placement, this_machine, usable_cores
from autosparse.cli.app import SpecRequest, load, say, show_json
from autosparse.cli.options import option
from autosparse.console.format import show_text
from autosparse.core.torch_compat.random_state import seeded
from autosparse.errors import UsageError
from autosparse.execute import Everyone, Execution
from autosparse.exporters import calibrates
from autosparse.exporters.signature import Preprocessing
from autosparse.foreign_code import printing_to_stderr
from autosparse.lazy_torch import torch
from autosparse.models import build_model, models, split_start
from autosparse.planning.compile import compile_plan
from autosparse.planning.status import missing_data, select_steps, statuses
from autosparse.registry import suggestion
from autosparse.report.finished import Finished
from autosparse.spec import resolve
from autosparse.spec.diagnostics import located
from autosparse.steps.context import calibration_images, load_images
from autosparse.steps.data import DataResult
from autosparse.store import Artifact, Store

_GROUP = "Checkpoints"
Checkpoint = Annotated[
    Path | None, option(_GROUP, "Export a state dict of any training loop, .safetensors or .pt.", metavar="FILE")
]
ModelOf = Annotated[
    str | None,
    option(_GROUP, "Its network: a spec, or a model's name with `--shape` and `--classes`.", "--model", metavar="SPEC"),
]
MasksOf = Annotated[Path | None, option(_GROUP, "Apply the masks of a `Masks.save`.", "--masks", metavar="FILE")]
ShapeOf = Annotated[
    str | None, option(_GROUP, "Channels, height and width, such as 3x32x32.", "--shape", metavar="SHAPE")
]
ClassesOf = Annotated[int | None, option(_GROUP, "Number of classes.", "--classes", metavar="N")]
_EXAMPLES = 256  # test images that the exported model is compared on


@dataclass(frozen=True)
class CheckpointRequest:
    """Checkpoint that a command names, and its network.

    `model` is a spec's file or name, or with `shape` and `classes` a model's name.
    """

    checkpoint: Path | None
    model: str | None
    masks: Path | None
    shape: str | None
    classes: int | None
    quiet: bool = False
    json: bool = False

    @property
    def is_given(self) -> bool:
        """True if an option of checkpoints is."""
        return any(one is not None for one in (self.checkpoint, self.model, self.masks, self.shape, self.classes))

    def check(self, others: Mapping[str, Any], out: Path | None) -> None:
        """Raise UsageError for a missing option, and for one of `others`, which are of runs."""
        needed = {"--checkpoint FILE": self.checkpoint, "--model SPEC": self.model, "--out DIR": out}
        if missing := [name for name, value in needed.items() if value is None]:
            raise UsageError(f"the export of a checkpoint needs `{missing[0]}`", "see `autosparse export --help`")
        if given := [name for name, value in others.items() if value not in (None, False)]:
            raise UsageError(f"a checkpoint has no `{given[0]}`", "leave it out, or leave out `--checkpoint`")
        if self.classes is not None and self.classes < 1:
            raise UsageError(f"`--classes {self.classes}` is not a number of classes", "write 1 or more")


@dataclass(frozen=True)
class _Network:
    """Network of a checkpoint, with examples of its inputs."""

    name: str
    options: Mapping[str, Any]
    shape: tuple[int, int, int]
    classes: int
    class_names: tuple[str, ...] = ()
    images: Preprocessing | None = None
    example: Any = None
    labels: Any = None
    data: Artifact | None = None


def export_checkpoint(request: CheckpointRequest, out: Path, formats: Sequence[Any]) -> None:
    """Export a checkpoint to a folder, in several formats to folders inside; print the models."""
    assert request.checkpoint is not None
    assert request.model is not None
    vacant(out)  # before the images are decoded
    choices, _ = choices_of(formats)
    masks = None if request.masks is None else Masks.load(request.masks)
    make = _from_spec if models.find(request.model) is None else _from_name
    named = make(request, request.model)
    calibration = _calibration(named, max(calibrates(one.name, one.options()) for one in choices))
    with seeded(0), printing_to_stderr():
        network = build_model(named.name, named.options, named.shape, named.classes)
        noise = torch.randn(2, *named.shape)
    load_checkpoint(network, request.checkpoint)
    exported = export(
        network,
        masks,
        out,
        format=formats if formats[1:] else formats[0],
        example=noise if named.example is None else named.example,
        calibration=calibration,
        labels=named.labels,
        class_names=named.class_names or tuple(map(str, range(named.classes))),
        preprocessing=named.images,
    )
    every = exported if isinstance(exported, tuple) else (exported,)
    if request.json:
        rows = [{**asdict(one), "path": str(one.path.absolute())} for one in every]
        show_json({"schema_version": 1, "checkpoint": str(request.checkpoint), "emitted": rows})
    else:
        show_text("\n".join(map(str, every)))


def _calibration(named: _Network, images: int) -> torch.Tensor | None:
    if not images:
        return None
    if named.data is None:
        message = "`quantize: int8` is calibrated on training images, which are unknown or missing"
        raise UsageError(message, "name a spec in `--model` whose images are on this machine, or write `dynamic`")
    return calibration_images(named.data, images)


def _from_name(request: CheckpointRequest, name: str) -> _Network:
    if request.shape is None or request.classes is None:
        message = f"`--model {name}` names a network without images"
        raise UsageError(message, "add their shape and the classes: `--shape 3x32x32 --classes 10`, or name a spec")
    if models[name].facts.get("user_code") and not request.quiet:
        say(f"note: importing your code, {name}")
    return _Network(name, {}, _shape(request.shape), request.classes)


def _shape(text: str) -> tuple[int, int, int]:
    sides = text.lower().split("x")
    if len(sides) != 3 or not all(side.isdecimal() and 0 < int(side) < 10**5 for side in sides):
        raise UsageError(f"`--shape {text}` is not a shape", "write channels, height and width, such as `3x32x32`")
    return int(sides[0]), int(sides[1]), int(sides[2])


def _from_spec(request: CheckpointRequest, name: str) -> _Network:
    if request.shape and not name.endswith((".yaml", ".yml")) and (near := suggestion(name, models.names)):
        raise UsageError(f"there is no model `{name}`", near)
    store = Store.default()
    loaded = load(SpecRequest(name, quiet=request.quiet), store, remember=False)
    if not request.quiet:
        note_user_code(loaded.spec, say)
    with located(loaded.document):
        plan = compile_plan(resolve(loaded.spec, this_machine()), loaded.name)
    model, data = loaded.spec.model, plan.steps[plan.cells[0].evaluate].inputs["data"]
    source = plan.sources[data]
    if not source.known and (request.shape is None or request.classes is None):
        why, remedy = source.missing() or ("its files are missing", "")
        hint = f"{remedy}, or add `--shape` and `--classes`"
        raise UsageError(f"the images of {name} are unknown: {why}", hint)
    shape = _shape(request.shape) if request.shape else source.shape
    classes = request.classes or source.classes
    options, _ = split_start(model.name, model.options())  # the checkpoint has the trained weights
    plain = _Network(model.name, options, shape, classes)
    if (shape, classes) != (source.shape, source.classes):
        return plain
    selection = select_steps(plan, statuses(plan, store), only=[data])
    if absent := missing_data(plan, selection.statuses):
        if not request.quiet:
            say(f"note: without preprocessing and accuracy: {absent[0][0]}")
        return _Network(model.name, options, shape, classes, source.class_names)
    placement = Placement("cpu", usable_cores().value)
    Execution(plan, store, Everyone(), placement=placement, selection=selection).run()
    artifact = Finished.of(plan, store, ()).open(data)
    statistics = DataResult.read(artifact).statistics
    images = load_images(artifact, "test", torch.device("cpu"))
    example, labels = next(iter(images.in_order(_EXAMPLES)))
    preprocessing = Preprocessing.of(shape, statistics["mean"].tolist(), statistics["spread"].tolist())
    return _Network(model.name, options, shape, classes, source.class_names, preprocessing, example, labels, artifact)
