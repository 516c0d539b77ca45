"""irp, rewind: one round of iterative rewind pruning, and the state that rounds rewind to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from autosparse.backends import EVALUATION_BATCH
from autosparse.core.irp import RANK_IMAGES, PerRoundOf, RankBy, irp_round, keep_after
from autosparse.core.training.loop import train
from autosparse.core.training.recipe import Recipe
from autosparse.core.weights import Tensors, kept, prunable_weights, state_of, total_of
from autosparse.errors import StepError
from autosparse.steps._base import (
    Content,
    Context,
    Count,
    MaskedResult,
    Percent,
    Positive,
    Real,
    StateResult,
    finite,
    operations,
)
from autosparse.steps.context import (
    build_network,
    check_training,
    generator,
    images_of,
    load_network,
    masks_of,
    on_device,
    restore,
)
from autosparse.steps.init import InitResult
from autosparse.steps.workload import LINE, Facts, Workload, training_workload


@dataclass(frozen=True)
class RoundResult(MaskedResult):
    """A round of iterative rewind pruning: its masks, its scores, and its training."""

    kept: Positive
    total: Positive
    layers: dict[str, Count]
    """weights that each layer keeps"""
    losses: list[Real]
    validation_accuracy: Percent
    """in percent, before pruning"""

    def check(self) -> None:
        """Compare layers with their sum."""
        self.require(sum(self.layers.values()) == self.kept <= self.total, "result.json: `layers` do not add up")

    @property
    def kept_by_layer(self) -> Mapping[str, int]:
        """Weights that the masks of each layer keep after the round."""
        return self.layers

    @Content
    def scores(self) -> Tensors:
        """Scores that the round ranked the trained weights by, in the shapes of the masks."""
        scores = finite(self, "scores")
        shapes = {name: mask.shape for name, mask in self.masks.items()}
        fits = {name: part.shape for name, part in scores.items()} == shapes
        self.require(fits, "scores.safetensors: not the names and shapes of the masks")
        return scores


@dataclass(frozen=True)
class RewindResult(StateResult):
    """Tensors alone: the state that every round rewinds to."""

    FILE: ClassVar[str] = ""


def irp_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of one round: a training, a validation and a ranking of the remaining weights."""
    training = training_workload(options, facts)
    validated = facts.source.validation_images
    units = {**training.units, "forward": validated, "select": facts.network.total}
    about, counted = dict(training.about), training.counted + facts.evaluated(validated)
    if options["rank_by"] == "snip":
        about["rank_by"], units["gradient"] = "snip", RANK_IMAGES
        counted += facts.differentiated(min(RANK_IMAGES, facts.source.train_images))
    after = {
        "data": facts.training_bytes,
        "bytes": 7 * 4 * facts.network.parameters,
        "forward": min(validated, EVALUATION_BATCH),
    }
    size = 5 * facts.network.total + LINE
    phases = (*training.memory, after)
    return replace(training, about=about, units=units, memory=phases, disk_bytes=size, counted=counted)


@operations.register(
    result=RoundResult,
    cost=irp_cost,
    metric="validation_accuracy",
    by_team=True,
    chained="rounds",
    spec_paths={
        "per_round": "irp.per_round",
        "rank_by": "irp.rank_by",
        "number": "irp.rounds",
        "per_round_of": "irp.per_round_of",
        "rewind_to": "irp.rewind_to",
        "seed": "seeds",
    },
)
def irp(
    context: Context,
    *,
    training: dict[str, Any],
    per_round: float,
    rank_by: RankBy,
    number: int,
    seed: int,
    per_round_of: PerRoundOf = "remaining",
    rewind_to: int = 0,
) -> None:
    """Run round `number`, from 1, on the masks of the round before (input `previous`).

    It starts from input `rewind`, if present: the state after `rewind_to` steps.
    """
    start = InitResult.read(context.inputs["init"])
    total = sum(start.layers.values())
    keep = keep_after(total, per_round, number, per_round_of)
    if keep < 1:
        raise StepError(f"round {number} would leave none of {total} weights", f"set `irp.rounds` below {number}")
    previous = context.inputs.get("previous")
    first = RewindResult.read(context.inputs["rewind"]) if "rewind" in context.inputs else start
    model = restore(build_network(context), first)
    masks = on_device(context, masks_of(prunable_weights(model), RoundResult.read(previous))) if previous else None
    try:
        result = irp_round(
            lambda: model,
            first.state,
            masks,
            keep=keep,
            training=images_of(context, "train"),
            validation=images_of(context, "validation"),
            recipe=Recipe(**training),
            # Every round sees the same batches: only the mask differs between rounds.
            generator=generator("irp", seed),
            rank_by=rank_by,
            begin=rewind_to,
            evaluation_batch=context.placement.evaluation_batch,
            observe=context.observe,
            team=context.team,
            checkpoint=context.checkpoint,
        )
    except ValueError:  # such as scores that are not numbers
        check_training(model.state_dict(), (), "irp.training.lr")
        raise
    check_training(result.scores, result.losses, "irp.training.lr")
    counts = kept(result.masks)
    RoundResult(
        kept=sum(counts.values()),
        total=total_of(result.masks),
        layers=counts,
        losses=result.losses,
        validation_accuracy=result.validation_accuracy,
    ).write(context.output, masks=result.masks, scores=result.scores)


def rewind_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of the first steps of a training."""
    recipe = options["training"]
    training = training_workload(options, facts)
    images = float(options["steps"] * facts.batch_of(recipe))
    compiled = {"compiled": images} if facts.kernels == "compiled" else {}
    about = {"shape": list(facts.source.shape), "batch": recipe["batch"], **compiled}
    units = {**training.units, **facts.training_units(images)}
    return replace(training, about=about, amount=images, units=units, counted=facts.trained(recipe, options["steps"]))


@operations.register(result=RewindResult, cost=rewind_cost, spec_paths={"steps": "irp.rewind_to", "seed": "seeds"})
def rewind(context: Context, *, training: dict[str, Any], steps: int, seed: int) -> None:
    """Save parameters and buffers of the dense network after `steps` steps of the rounds' recipe, on their batches.

    Late rewinding: Frankle et al. 2020, "Linear mode connectivity and the lottery ticket hypothesis".
    """
    model = load_network(context)
    images, random = images_of(context, "train"), generator("irp", seed)
    train(model, images, Recipe(**training), random, end=steps, observe=context.observe)
    state = state_of(model)
    check_training(state, (), "irp.training.lr")
    RewindResult().write(context.output, state=state)
