"""irp, rewind: one round of iterative rewind pruning, and the state that rounds rewind to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from autosparse.backends import EVALUATION_BATCH
from autosparse.core.graph.connectivity import kept
from autosparse.core.irp import RANK_IMAGES, PerRoundOf, RankBy, irp_round, keep_after
from autosparse.core.training.loop import Recipe, train
from autosparse.core.weights import state_of
from autosparse.errors import Diverged, StepError
from autosparse.steps._base import operations
from autosparse.steps.context import Work, build_network, generator, load_network
from autosparse.steps.train import train_cost
from autosparse.steps.workload import LINE, Facts, Workload, costs


@operations.register(
    version=1,
    tells="validation_accuracy",
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
    work: Work,
    *,
    training: dict[str, Any],
    per_round: float,
    rank_by: RankBy,
    number: int,
    seed: int,
    per_round_of: PerRoundOf = "remaining",
    rewind_to: int = 0,
) -> None:
    """Round `number`, from 1, on the masks of the round before (input `previous`).

    It starts from input `rewind`, the state after `rewind_to` steps, where there is one.
    """
    start = work.inputs["init"]
    total = sum(start.json("network")["layers"].values())
    keep = keep_after(total, per_round, number, per_round_of)
    if keep < 1:
        raise StepError(f"round {number} would leave none of {total} weights", f"set `irp.rounds` below {number}")
    model = build_network(work)
    try:
        result = irp_round(
            lambda: model,
            work.inputs.get("rewind", start).tensors("state"),
            work.masks("previous"),
            keep=keep,
            training=work.images("train"),
            validation=work.images("validation"),
            recipe=Recipe(**training),
            # Every round sees the same batches: what differs between rounds is the mask alone.
            generator=generator("irp", seed),
            rank_by=rank_by,
            begin=rewind_to,
            evaluation_batch=work.place.evaluation_batch,
            observe=work.observe,
            team=work.team,
        )
    except ValueError as error:  # such as scores that are not numbers
        if broken := [name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()]:
            raise Diverged(f"training diverged: {broken[0]} is not finite", "lower `irp.training.lr`") from error
        raise
    if not all(map(math.isfinite, result.losses)):
        raise Diverged("training diverged: its loss is not finite", "lower `irp.training.lr`")
    work.output.write_tensors("masks", result.masks)
    work.output.write_tensors("scores", result.scores)
    counts = kept(result.masks)
    work.output.write_json(
        "result",
        {
            "kept": sum(counts.values()),
            "total": sum(mask.numel() for mask in result.masks.values()),
            "layers": counts,
            "losses": result.losses,
            "validation_accuracy": result.validation_accuracy,
        },
    )


@operations.register(version=1, spec_paths={"steps": "irp.rewind_to", "seed": "seeds"})
def rewind(work: Work, *, training: dict[str, Any], steps: int, seed: int) -> None:
    """Parameters and buffers of the dense network after `steps` steps of the rounds' recipe, on their batches.

    Late rewinding: Frankle et al. 2020, "Linear mode connectivity and the lottery ticket hypothesis".
    """
    model = load_network(work)
    train(
        model,
        work.images("train"),
        Recipe(**training),
        generator("irp", seed),
        end=steps,
        observe=work.observe,
    )
    state = state_of(model)
    if broken := [name for name, tensor in state.items() if not tensor.isfinite().all()]:
        raise Diverged(f"training diverged: {broken[0]} is not finite", "lower `irp.training.lr`")
    work.output.write_tensors("state", state)


@costs.register(name="irp")
def irp_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of one round: a training, a validation and a ranking of the remaining weights."""
    training = train_cost(options, facts)
    validated = facts.source.validation_images
    units = {**training.units, "forward": validated, "select": facts.network.total}
    about = dict(training.about)
    if options["rank_by"] == "snip":
        about["rank_by"], units["gradient"] = "snip", RANK_IMAGES
    after = {
        "data": facts.training_bytes,
        "bytes": 7 * 4 * facts.network.parameters,
        "forward": min(validated, EVALUATION_BATCH),
    }
    size = 5 * facts.network.total + LINE
    return replace(training, about=about, units=units, memory=(*training.memory, after), disk_bytes=size)


@costs.register(name="rewind")
def rewind_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of the first steps of a training."""
    recipe = options["training"]
    training = train_cost(options, facts)
    images = float(options["steps"] * facts.batch_of(recipe))
    compiled = {"compiled": images} if facts.kernels == "compiled" else {}
    about = {"shape": list(facts.source.shape), "batch": recipe["batch"], **compiled}
    return replace(training, about=about, amount=images, units={**training.units, **facts.training_units(images)})
