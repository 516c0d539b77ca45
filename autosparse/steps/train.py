"""train, evaluate: the shared recipe on a masked or the dense network, and its test accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from autosparse.backends import EVALUATION_BATCH
from autosparse.core.allocation import macs
from autosparse.core.graph.connectivity import Finding
from autosparse.core.graph.slicing import Slicing, sliced
from autosparse.core.training.loop import accuracy
from autosparse.core.training.loop import train as train_network
from autosparse.core.training.updates import Change
from autosparse.core.weights import Tensors, describe_layers, prunable_weights, state_of, total_of
from autosparse.lazy_torch import torch
from autosparse.steps._base import (
    Context,
    Count,
    MaskedResult,
    Percent,
    Positive,
    Real,
    StateResult,
    StepResult,
    operations,
)
from autosparse.steps.context import (
    build_network,
    check_training,
    copied,
    diverged,
    generator,
    images_of,
    load_network,
    masks_of,
    on_device,
    restore,
)
from autosparse.steps.mask_result import read_masks, slicing_under, start_from
from autosparse.steps.tuning.chosen_recipe import recipe_of, takes_candidate
from autosparse.steps.workload import LINE, Facts, Workload, training_workload
from autosparse.store import Artifact


@dataclass(frozen=True)
class TrainResult(StateResult):
    """A trained network: its state, and the mean loss of every epoch."""

    losses: list[Real]
    diverged: bool = field(default=False, kw_only=True)
    """True for a candidate whose training diverged: its state is the one before"""


@dataclass(frozen=True)
class SparseTrainResult(TrainResult, MaskedResult):
    """A network trained while its masks changed: its last masks, and every change."""

    total: Positive
    kept: dict[str, Count]
    """weights that the last masks keep in each layer"""
    changes: list[Change]

    def check(self) -> None:
        """Compare layers with their sum."""
        self.require(0 < sum(self.kept.values()) <= self.total, "result.json: `kept` and `total` do not fit")

    @property
    def kept_by_layer(self) -> Mapping[str, int]:
        """Weights that the last masks of each layer keep."""
        return self.kept


def read_trained(artifact: Artifact) -> TrainResult:
    """Return the result of a step that trains. Raises DamagedArtifact."""
    changes_masks = artifact.descriptor.get("operation") == "sparse_train"
    return (SparseTrainResult if changes_masks else TrainResult).read(artifact)


@dataclass(frozen=True)
class LayerResult:
    """A layer of an evaluated network, with its remaining paths if they can be followed."""

    name: str
    size: Count
    kept: Count
    macs: Count
    dense_macs: Count
    effective: Count | None = None
    nodes: Count | None = None
    channels: Positive | None = None
    paths_through: Real | Literal["unknown"] | None = "unknown"
    """natural logarithm of their number; None for no path"""


@dataclass(frozen=True)
class EvaluateResult(StepResult):
    """Accuracies in percent, and the weights, multiply-adds and paths that are left.

    Paths are unknown where they cannot be followed. Nodes, paths and findings are those of a mask.
    """

    validation_accuracy: Percent
    test_accuracy: Percent
    total: Positive
    kept: Count
    macs: Count
    dense_macs: Count
    layers: list[LayerResult]
    parameters: Count
    effective: Count | None = None
    effective_macs: Count | None = None
    nodes: Count | None = None
    channels: Positive | None = None
    paths: Real | Literal["unknown"] | None = "unknown"
    """natural logarithm of their number; None for no path"""
    findings: list[Finding] | None = None

    def check(self) -> None:
        """Compare totals with layers, and require the facts of paths to be complete."""
        self.require(
            self.total == sum(layer.size for layer in self.layers) > 0, "result.json: `total` is not that of `layers`"
        )
        self.require(all(layer.kept <= layer.size for layer in self.layers), "result.json: `kept` exceeds `size`")
        for part in ("kept", "effective", "nodes", "channels"):
            counts, total = [getattr(layer, part) for layer in self.layers], getattr(self, part)
            fits = counts == [None] * len(counts) if total is None else None not in counts and sum(counts) == total
            self.require(fits, f"result.json: `{part}` is not that of `layers`")
        unknown = {self.nodes is None, self.channels is None, self.paths == "unknown"}
        unknown |= {layer.paths_through == "unknown" for layer in self.layers}
        self.require(len(unknown) == 1, "result.json: `nodes`, `channels`, `paths`, `paths_through` go together")
        is_traced = self.effective is not None
        self.require(is_traced == (self.effective_macs is not None), "result.json: `effective` lacks `effective_macs`")


@operations.register(result=TrainResult, cost=training_workload, by_team=True, spec_paths={"seed": "seeds"})
def train(
    context: Context,
    *,
    training: dict[str, Any],
    seed: int,
    attempt: bool = False,
    values: list[dict[str, Any]] | None = None,
) -> None:
    """Train from input `init` under input `mask`, or dense without it. The batches depend on the seed alone.

    Input `recipe` has chosen one of `values`, fields that `training` lacks. An `attempt` may diverge.
    """
    if takes_candidate(context):
        return
    model = load_network(context)
    images, weights = images_of(context, "train"), prunable_weights(model)
    result = read_masks(context.inputs["mask"]) if "mask" in context.inputs else None
    masks = None if result is None else on_device(context, masks_of(weights, result))
    if result is not None:
        start_from(model, result)
    slicing = slicing_under(result)
    before = copied(state_of(model)) if attempt else {}
    network, masks = network_to_train(model, masks, slicing)
    losses = train_network(
        network,
        images,
        recipe_of(context, training, scaled=result is None or not result.keeps_weights),
        generator("train", seed),
        masks=masks,
        observe=context.observe,
        team=context.team,
        checkpoint=context.checkpoint,
    )
    state = state_of(network) if slicing is None else slicing.put(state_of(network), state_of(model))
    if attempt and diverged(state, losses):
        TrainResult([], diverged=True).write(context.output, state=before)
        return
    check_training(state, losses, "training.lr")
    TrainResult(losses).write(context.output, state=state)


def network_to_train(
    model: torch.nn.Module, masks: Tensors | None, slicing: Slicing | None
) -> tuple[torch.nn.Module, Tensors | None]:
    """Return the network to train and the masks to hold: a smaller network without masks where channels are removed.

    The weights that `model` loses become zero: it has the shapes of the trained state.
    """
    if slicing is None:
        return model, masks
    with torch.no_grad():
        for name, weight in prunable_weights(model).items():
            weight.masked_fill_(~(masks or {})[name], 0)
    return slicing.start(model), None


def evaluate_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of one forward pass over the validation and test images."""
    images = facts.source.validation_images + facts.source.test_images
    data = images * facts.image_bytes
    return Workload(
        {"images": images, "precision": options["precision"], **facts.smaller},
        {"step": 1, "build": 1, "forward": images * facts.share, "bytes": data + facts.state_bytes},
        (
            {"data": 3 * data, "bytes": 2 * facts.state_bytes},
            {"data": data, "bytes": 2 * facts.state_bytes, "forward": min(images, EVALUATION_BATCH)},
        ),
        2 * LINE + 260 * len(facts.network.layers),
        precision=options["precision"],
        counted=facts.evaluated(images),
    )


@operations.register(
    result=EvaluateResult,
    cost=evaluate_cost,
    metric="test_accuracy",
    spec_paths={"precision": "training.precision"},
)
def evaluate(context: Context, *, precision: str) -> None:
    """Measure the accuracies after the last epoch, in percent, and the remaining weights and multiply-adds."""
    model = restore(build_network(context), read_trained(context.inputs["train"]))
    splits = {name: images_of(context, name) for name in ("validation", "test")}
    layers = describe_layers(model, torch.zeros((1, *splits["test"].input_shape), device=context.device))
    batch = context.placement.evaluation_batch
    mask = read_masks(context.inputs["mask"]) if "mask" in context.inputs else None
    slicing = slicing_under(mask)
    network = model if slicing is None else sliced(model, slicing)
    reached = {name: accuracy(network, images, precision, batch=batch) for name, images in splits.items()}
    dense = {layer.name: layer.size for layer in layers}
    kept, known = (dense, {"effective": dense}) if mask is None else (mask.kept, mask.by_layer)
    if mask is not None:
        mask.require({*kept} == {*dense}, "result.json: `kept` has not the layers of the network")
    EvaluateResult(
        validation_accuracy=reached["validation"],
        test_accuracy=reached["test"],
        total=sum(dense.values()),
        kept=sum(kept.values()),
        macs=macs(layers, kept),
        dense_macs=macs(layers),
        **{part: sum(known[part].values()) for part in ("effective", "nodes", "channels") if part in known},
        effective_macs=macs(layers, known["effective"]) if "effective" in known else None,
        paths="unknown" if mask is None else mask.paths,
        findings=None if mask is None else mask.findings,
        layers=[
            LayerResult(
                name=layer.name,
                size=layer.size,
                kept=kept[layer.name],
                macs=layer.positions * kept[layer.name],
                dense_macs=layer.positions * layer.size,
                **{part: counts[layer.name] for part, counts in known.items()},
            )
            for layer in layers
        ],
        parameters=total_of(dict(model.named_parameters())),
    ).write(context.output)
