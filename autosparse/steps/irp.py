"""irp, rewind: one round of iterative rewind pruning, and the state that rounds rewind to."""

from __future__ import annotations

import math
from typing import Any

from autosparse.core.graph.connectivity import kept
from autosparse.core.irp import PerRoundOf, RankBy, irp_round, keep_after
from autosparse.core.training.loop import Recipe, train
from autosparse.core.weights import state_of
from autosparse.errors import Diverged, StepError
from autosparse.steps._base import operations
from autosparse.steps.context import Work, build_network, generator, load_network


@operations.register(version=1, tells="validation_accuracy", by_team=True)
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


@operations.register(version=1)
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
