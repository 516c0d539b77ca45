"""sparse_train, final_mask: training with masks that change meanwhile, and the masks at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from autosparse.core.training.loop import train_sparse
from autosparse.core.training.update_rules import cycles_of, starts_dense, update_rules
from autosparse.core.weights import Tensors, full_masks, kept, prunable_weights, state_of, total_of
from autosparse.errors import Diverged, StepError
from autosparse.steps._base import Context, operations
from autosparse.steps.context import (
    check_training,
    choose,
    copied,
    diverged,
    gather_evidence,
    generator,
    images_of,
    load_network,
    masks_of,
    on_device,
)
from autosparse.steps.mask import Made, explaining, pruning_of, shuffle_cost, write_masks
from autosparse.steps.mask_result import MaskResult, read_masks, start_from
from autosparse.steps.train import SparseTrainResult
from autosparse.steps.tuning.chosen_recipe import recipe_of, takes_candidate
from autosparse.steps.workload import Facts, Workload, training_workload


def sparse_train_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of the trainings of an update rule, with a second copy of the network to score."""
    rule = options["method"]["updates"]
    cycles, training = cycles_of(rule), training_workload(options, facts)
    if facts.count("candidate"):
        return training
    units = {
        unit: amount * cycles if unit in ("train", "sparse", "compiled") else amount
        for unit, amount in training.units.items()
    }
    phases = tuple({**phase, "bytes": phase["bytes"] + 2 * facts.state_bytes} for phase in training.memory)
    return replace(
        training,
        about={**training.about, "updates": rule},
        units=units,
        memory=phases,
        amount=training.amount * cycles,
        disk_bytes=training.disk_bytes + facts.network.total,
        counted=training.counted * cycles,
    )


@operations.register(
    result=SparseTrainResult,
    cost=sparse_train_cost,
    by_team=True,
    spec_paths={"sparsity": "budget", "seed": "seeds"},
)
def sparse_train(
    context: Context,
    *,
    method: dict[str, Any],
    training: dict[str, Any],
    seed: int,
    sparsity: float = 0.0,
    budget: Any = None,
    attempt: bool = False,
    values: list[dict[str, Any]] | None = None,
) -> None:
    """Train from input `init` while the method's `updates` change the masks: from input `mask`, or from dense.

    The batches depend on the seed alone, as those of other trainings. Input `recipe` has chosen one of `values`, fields
    that `training` lacks. An `attempt` may diverge.
    """
    if takes_candidate(context):
        return
    first = None if starts_dense(method["updates"]) else read_masks(context.inputs["mask"])
    recipe = recipe_of(context, training, scaled=first is None or not first.keeps_weights)
    random = generator("updates", seed)
    evidence = gather_evidence(context, seed=seed, recipe=recipe)
    pruning, _, limit = pruning_of(context, method, evidence, recipe, sparsity, budget)
    model = load_network(context)
    masks: Tensors | None = None
    if first is not None:
        masks = on_device(context, masks_of(prunable_weights(model), first))
        start_from(model, first)
    before = copied(state_of(model)) if attempt else {}
    try:
        with explaining(method, limit):
            result = train_sparse(
                model,
                images_of(context, "train"),
                recipe,
                generator("train", seed),
                choose(update_rules, method["updates"])(pruning, random),
                masks=masks,
                observe=context.observe,
                team=context.team,
                checkpoint=context.checkpoint,
            )
        check_training(state_of(model), result.losses, "training.lr")
    except (Diverged, StepError) as error:
        if not attempt or not (isinstance(error, Diverged) or diverged(state_of(model), ())):
            raise
        whole = full_masks(prunable_weights(model))
        lost = SparseTrainResult([], total_of(whole), kept(whole), [], diverged=True)
        lost.write(context.output, state=before, masks=whole)
        return
    state = state_of(model)
    last = {name: mask.cpu() for name, mask in result.masks.items()}
    made = SparseTrainResult(result.losses, total_of(last), kept(last), [*result.changes])
    made.write(context.output, state=state, masks=last)


@operations.register(result=MaskResult, cost=shuffle_cost, spec_paths={"seed": "seeds"})
def final_mask(context: Context, *, seed: int) -> None:
    """Describe the masks at the end of input `train`."""
    evidence = gather_evidence(context, seed=seed)
    result = SparseTrainResult.read(context.inputs["train"])
    write_masks(context, evidence, Made(on_device(context, masks_of(evidence.weights, result))))
