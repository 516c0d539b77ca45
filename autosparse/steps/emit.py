"""emit: a pruned model in one format, reloaded in another process, compared and timed, with a model card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from typing import Any, ClassVar

from autosparse.backends import EVALUATION_BATCH, Placement
from autosparse.core.graph.shrink import are_close
from autosparse.core.torch_compat.memory_layout import lay_out
from autosparse.core.weights import load_state, prunable_weights, sparsity_of
from autosparse.errors import StepError
from autosparse.exporters import (
    BATCHES,
    Model,
    Preprocessing,
    Signature,
    Speed,
    bytes_of,
    calibrates,
    card_fields,
    exporters,
    is_lossy,
    runtime_of,
)
from autosparse.exporters.quantization import AT_ONCE, damage
from autosparse.lazy_torch import torch
from autosparse.models import config_of
from autosparse.steps._base import Context, Percent, Positive, Real, StepResult, operations, reading
from autosparse.steps.context import build_network, calibration_images, images_of, masks_of
from autosparse.steps.data import DataResult
from autosparse.steps.init import InitResult, find_model
from autosparse.steps.mask_result import ChannelMaskResult, read_masks, slicing_under
from autosparse.steps.train import EvaluateResult, read_trained
from autosparse.steps.verify_export import outputs_of, reload, running
from autosparse.steps.workload import Facts, Workload
from autosparse.store import Artifact, canonical, dump_tensors
from autosparse.text import listed

_CARD = 8_000  # bytes of a model card
_TIMED = 0.4  # seconds in which the speed of a small model is measured
_QUANTIZING = 10  # copies of the state at the peak of a quantization: 8.9 of VGG-16

CARD = "card.json"


@dataclass(frozen=True)
class _Emission(StepResult):
    FILE: ClassVar[str] = "measured"

    def files(self) -> set[str]:
        """Return the names of the files that the step writes, with those of a model and its card."""
        return {*super().files(), CARD, *self.model_files}

    @property
    def model_files(self) -> Sequence[str]:
        """Names of the model's files."""
        return ()

    def check_contents(self) -> None:
        """Read the card, and the model in a format that autosparse opens."""
        with reading(self.artifact, CARD):
            about = {name: file for name, file in self.artifact.files.items() if name in self.model_files}
            self.require(self.artifact.json("card")["files"] == about, f"{CARD}: `files` are not those of the model")


@dataclass(frozen=True)
class FailedEmission(_Emission):
    """An emission without a model, with the reason why the network has none of the format."""

    failed: str
    threads: Positive


@dataclass(frozen=True)
class EmitResult(_Emission):
    """An emitted model, measured in another process; the model itself is in the artifact's other files."""

    bytes: Positive
    dense_bytes: Positive
    max_abs_error: Real
    max_rel_error: Real
    test_accuracy: Percent
    runtime: str
    """program that computed the model and the dense network"""
    speeds: dict[str, Speed]
    """batch size -> latencies and speed-up"""
    threads: Positive

    def check(self) -> None:
        """Require a speed for every batch size, also that of a latency budget, and the size of the model's files."""
        usual, of_budget = {*map(str, BATCHES)}, "latency" in self.asked.get("budget", {})
        fits = {*self.speeds} >= usual if of_budget else {*self.speeds} == usual
        self.require(fits, "measured.json: `speeds` are not those of the batch sizes")
        sizes = {name: self.artifact.files[name]["bytes"] for name in self.model_files}
        self.require(
            self.bytes == bytes_of(self.asked["format"], sizes),
            "measured.json: `bytes` are not those of the model's files",
        )

    @property
    def model_files(self) -> Sequence[str]:
        """Names of the model's files, of which a format may have optional ones."""
        return [name for name in self.artifact.files if name not in ("measured.json", CARD)]

    def check_contents(self) -> None:
        """Read the card, and the model in a format that autosparse opens."""
        super().check_contents()
        files = {name: self.artifact.read(name) for name in self.model_files}
        with reading(self.artifact, listed(self.model_files)):
            facts = exporters[self.asked["format"]].facts
            required, optional = {*facts["files"]}, {*facts.get("optional", ())}
            self.require(required <= {*files} <= required | optional, "its files are not those of the format")
            if "read" in facts:
                facts["read"](files)


def read_emission(artifact: Artifact) -> EmitResult | FailedEmission:
    """Return the measurements of an emitted model, or the reason for its absence. Raises DamagedArtifact."""
    is_model = bool({*artifact.files} - {"measured.json", CARD})
    return EmitResult.read(artifact) if is_model else FailedEmission.read(artifact)


def emit_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of writing a model and of its outputs for the test images, here and in another process."""
    size, images = facts.state_bytes + facts.network.total, facts.source.test_images
    format, given, data = options["format"], options.get("options") or {}, images * facts.image_bytes
    calibration = min(calibrates(format, given), facts.source.train_images)
    quantizing = _QUANTIZING * facts.state_bytes if is_lossy(format, given) else 0
    passes, calibrated = 2 * images + calibration, data + facts.training_bytes
    about = {"calibration": calibration} if calibration else {}
    return Workload(
        {"format": format, "images": images, **about},
        {
            "step": 1,
            "build": 4 + exporters[format].facts.get("builds", 0),
            "forward": passes,
            "seconds": _TIMED,
            "bytes": 2 * size + facts.state_bytes + 2 * data,
        },
        (
            # The files of the dense network too, and in the other process the dense network in both runtimes.
            {"data": 3 * data, "bytes": max(quantizing, 7 * facts.state_bytes)},
            {"data": data, "bytes": 8 * facts.state_bytes, "forward": min(images, EVALUATION_BATCH)},
            *([{"data": calibrated, "bytes": quantizing, "forward": 2 * AT_ONCE}] if calibration else []),
        ),
        size + _CARD + 150 * len(facts.network.layers),
        counted=facts.evaluated(passes),
    )


@operations.register(
    result=EmitResult,
    read=read_emission,
    cost=emit_cost,
    version=4,
    spec_paths={"format": "emit", "sparsity": "budget", "seed": "seeds", "classes": "dataset"},
)
def emit(
    context: Context,
    *,
    format: str,
    format_version: int,
    method: str,
    seed: int,
    classes: Sequence[str],
    sparsity: float | None = None,
    budget: dict[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Write the model; `measured.json` holds its bytes, its errors after a reload on test images, and latencies.

    `classes` are the names in the order of the outputs; empty for the indices.

    If the network has no model of that format, or one with other outputs, no files remain and it holds the reason.
    """
    running()  # the verifying process imports torch while this one writes the model
    start, evaluated = InitResult.read(context.inputs["init"]), EvaluateResult.read(context.inputs["evaluate"])
    statistics = DataResult.read(context.inputs["data"]).statistics
    about = {
        "method": method,
        "sparsity": sparsity_of(evaluated.total, evaluated.kept) if sparsity is None else sparsity,
        **({"budget": budget} if budget else {}),
        "seed": seed,
        "network": start.json(),
        "accuracy": evaluated.json(),
    }
    images = Preprocessing.of(start.shape, statistics["mean"].tolist(), statistics["spread"].tolist())
    signature = Signature.of(start.shape, start.classes, classes, images)
    trained = _Trained.of(context)
    config = config_of(
        *find_model(context, start.model), start.shape, signature.classes, mean=images.mean, std=images.std
    )
    given = options or {}
    model = replace(
        trained.model,
        signature=signature,
        config=config,
        about={**about, **_made(context)},
        calibration=partial(trained.calibration, calibrates(format, given)),
    )
    measured: EmitResult | FailedEmission
    try:
        files = exporters[format].function(model, **given)
        for file, data in files.items():
            context.output.write(file, data)
        measured = _measure(context, format, trained, files, lossy=is_lossy(format, given))
    except ValueError as error:  # no such model of this network, or on this machine
        for file in [*context.output.files]:
            context.output.remove(file)
        files, measured = {}, FailedEmission(str(error), context.placement.threads)
    measured.write(context.output)
    card = {
        "format": format,
        **({"options": options} if options else {}),
        **card_fields(signature),
        **about,
        **({"max_abs_error": measured.max_abs_error} if isinstance(measured, EmitResult) else {}),
        "files": {name: file for name, file in context.output.files.items() if name in files},
        "provenance": {role: _origin(artifact.descriptor) for role, artifact in sorted(context.inputs.items())},
    }
    context.output.write(CARD, (json.dumps(card, indent=1, sort_keys=True) + "\n").encode())


def _made(context: Context) -> dict[str, Any]:
    # The model's provenance, and the accuracies of its other seeds and controls.
    kept, train = ("autosparse", "python", "torch", "processor"), context.inputs["train"].descriptor
    results = {f"{kind}.{name}": item for kind in ("method", "control") for name, item in context.roles(kind).items()}
    return {
        "options": {role: dict(item.descriptor["options"]) for role, item in context.inputs.items()},
        "keys": {role: item.key for role, item in context.inputs.items()},
        "environment": {name: train["environment"][name] for name in kept if name in train["environment"]},
        "others": {role: EvaluateResult.read(item).test_accuracy for role, item in results.items()},
    }


@dataclass(frozen=True)
class _Trained:
    """A pruned network, equal to others with the same bytes; its formats share the outputs and the model's memo."""

    digests: str
    context: Context = field(compare=False, repr=False)

    @staticmethod
    @lru_cache(maxsize=1)
    def _known(trained: _Trained) -> _Trained:
        return trained

    @classmethod
    def of(cls, context: Context) -> _Trained:
        """Return the network of a step's inputs; the same object for consecutive formats of one network."""
        roles, placement = ("data", "init", "mask", "train"), context.placement
        files = {role: (context.inputs[role].key, context.inputs[role].files) for role in roles}
        setting = [placement.device, placement.threads, placement.evaluation_batch]
        return cls._known(cls(canonical([files, setting]), context))

    @cached_property
    def model(self) -> Model:
        """The model, without a card's content."""
        context = self.context
        state = read_trained(context.inputs["train"]).state
        weights = prunable_weights(build_network(context))
        result = read_masks(context.inputs["mask"])
        masks, shape = masks_of(weights, result), InitResult.read(context.inputs["init"]).shape
        slicing = slicing_under(result)
        return Model(state, masks, lambda: build_network(context), shape, slicing=slicing)

    @cached_property
    def expected(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs for the test images, and their labels."""
        return self.outputs_with(self.model.state)

    def calibration(self, images: int) -> Sequence[torch.Tensor]:
        """Return batches of this number of training images."""
        context = self.context
        drawn = calibration_images(context.inputs["data"], images, stream=context.placement.stream)
        batches: Sequence[torch.Tensor] = drawn.split(AT_ONCE)
        return batches

    def outputs_with(self, state: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the outputs of the network with another state, and the labels."""
        network = load_state(build_network(self.context), state).cpu().eval()
        images = images_of(self.context, "test", torch.device("cpu"))
        return outputs_of(network, lay_out(network, images), self.context.placement.evaluation_batch), images.labels


def _measure(
    context: Context, format: str, trained: _Trained, files: Mapping[str, bytes], *, lossy: bool
) -> EmitResult:
    # Measurements of the files in another process. Raises ValueError for outputs outside the tolerance.
    start, facts = InitResult.read(context.inputs["init"]), exporters[format].facts
    name, given = find_model(context, start.model)
    described = {"name": name, "options": given, "shape": start.shape, "classes": start.classes}
    batches, placement = _conditions(context, format)
    emitted, speeds = reload(context.output.folder, format, described, context.inputs["data"], placement, batches)
    (expected, labels), state = trained.expected, trained.model.state
    difference = (expected - emitted).abs()
    if not bool(emitted.isfinite().all()):
        raise ValueError("after a reload its outputs are not finite")
    if facts["exact"]:
        # Rounded values differ: compare with the network that has the rounded values.
        written = facts["read"](files).state
        same = all(torch.equal(tensor, written[name]) for name, tensor in state.items())
        opened = expected if same else trained.outputs_with(written)[0]
        if (error := float((opened - emitted).abs().max())) != 0:
            raise StepError(f"the emitted {format} model differs after a reload by {error}")
    elif lossy:
        if reason := damage(expected, emitted, labels):
            raise ValueError(f"after a reload {reason}")
    elif not are_close(expected, emitted):
        raise ValueError(f"after a reload its outputs differ by {float(difference.max()):.2g}")
    right = emitted.argmax(dim=1) == labels
    return EmitResult(
        bytes=bytes_of(format, {name: len(data) for name, data in files.items()}),
        dense_bytes=len(dump_tensors(state)),
        max_abs_error=float(difference.max()),
        max_rel_error=float(difference.max() / expected.abs().max().clamp_min(1e-30)),
        test_accuracy=100 * int(right.sum()) / len(right),
        runtime=runtime_of(format).name,
        speeds=speeds,
        threads=placement.threads,
    )


def _conditions(context: Context, format: str) -> tuple[Sequence[int], Placement]:
    # The batch sizes and threads of a latency budget in the runtime of the format, else the usual ones.
    mask = read_masks(context.inputs["mask"])
    latency = mask.latency if isinstance(mask, ChannelMaskResult) else None
    if latency is None or latency.conditions.runtime != runtime_of(format).name:
        return BATCHES, context.placement
    batches = sorted({*BATCHES, latency.conditions.batch})
    return batches, replace(context.placement, threads=latency.conditions.threads)


def _origin(descriptor: Any) -> dict[str, Any]:
    return {name: descriptor[name] for name in ("operation", "key", "version", "options", "environment", "files")}
