"""sanity: one check of one method's masks, trained and evaluated like every other network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from autosparse.core.graph.slicing import Slicing
from autosparse.core.sanity import best_of, invert, left_out, overlap, permute_labels, permute_pixels
from autosparse.core.training.loop import accuracy
from autosparse.core.training.loop import train as train_network
from autosparse.core.training.recipe import Recipe, of_a_step
from autosparse.core.weights import Tensors, prunable_weights, state_of
from autosparse.errors import StepError
from autosparse.steps._base import Context, Percent, Share, StepResult, operations
from autosparse.steps.context import (
    build_network,
    gather_evidence,
    generator,
    images_of,
    load_network,
    masks_of,
    not_finite,
    on_device,
)
from autosparse.steps.init import START, InitResult
from autosparse.steps.mask import make_masks, mask_cost, shuffled, takes_training
from autosparse.steps.mask_result import read_masks, slicing_under
from autosparse.steps.train import EvaluateResult, evaluate_cost, network_to_train
from autosparse.steps.workload import LINE, Facts, Workload, sum_counted, sum_units, training_workload


@dataclass(frozen=True)
class SanityResult(StepResult):
    """A check of the chosen candidate: accuracies in percent, or the reason for its omission."""

    chosen: str
    candidates: dict[str, Percent]
    """validation accuracies behind the choice; empty for a single candidate"""
    overlap: Share | None
    """share of the candidate's weights that the masks of the check keep; None for a check without masks"""
    left_out: str
    """reason for the omission; empty for a completed check"""
    validation_accuracy: Percent | None = None
    test_accuracy: Percent | None = None

    def check(self) -> None:
        """Require accuracies, or the reason for their absence."""
        for split in ("validation", "test"):
            is_absent = getattr(self, f"{split}_accuracy") is None
            self.require(
                is_absent == bool(self.left_out), f"result.json: `{split}_accuracy` and `left_out` exclude each other"
            )


_CORRUPTED = {"random_labels": permute_labels, "shuffled_pixels": permute_pixels}


def sanity_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of the most expensive candidate: its masks, one training and one evaluation."""
    check, recipe = options["check"], options["training"]
    parts = [training_workload(options, facts), evaluate_cost(recipe, facts)]
    if check not in ("shuffle", "reinitialize"):
        steps, whole = {"training": of_a_step(recipe)}, replace(facts, share=1.0)
        masks = [
            mask_cost({"method": method, **(steps if takes_training(method, facts.warm_up) else {})}, whole)
            for method in options["candidates"].values()
            if not left_out(check, method)
        ]
        times = 2 if check == "invert" else 1
        units = {unit: times * max(mask.units[unit] for mask in masks) for unit in masks[0].units}
        counted = max((mask.counted for mask in masks), key=lambda work: work.macs) * times
        memory = tuple(phase for mask in masks for phase in mask.memory)
        parts.append(replace(masks[0], units=units, memory=memory, counted=counted))
    return Workload(
        {"check": check, "candidates": sorted(options["candidates"]), "training": recipe},
        sum_units(parts),
        tuple(phase for part in parts for phase in part.memory),
        3 * LINE,
        batch=recipe["batch"],
        precision=recipe["precision"],
        kernels=facts.kernels,
        counted=sum_counted(part.counted for part in parts),
    )


@operations.register(
    result=SanityResult,
    version=3,
    cost=sanity_cost,
    spec_paths={
        "check": "sanity.checks",
        "candidates": "",
        "sparsity": "budget",
        "seed": "seeds",
        "mask.*": "methods in `compare`",
        "evaluate.*": "networks that the best is chosen by",
    },
)
def sanity(
    context: Context,
    *,
    check: str,
    candidates: dict[str, Any],
    training: dict[str, Any],
    seed: int,
    sparsity: float = 0.0,
    budget: Any = None,
) -> None:
    """Check the candidate with the highest validation accuracy, or record the reason to leave the check out.

    `candidates` are methods, id -> keyed choices, with their masks in the inputs `mask.ID`. Inputs `evaluate.ID.SEED`
    hold the accuracies of several candidates.
    """
    chosen, reached = _choose(context, candidates)
    method = candidates[chosen]
    weights, shared = prunable_weights(build_network(context)), None
    result = read_masks(context.roles("mask")[chosen])
    masks, slices = on_device(context, masks_of(weights, result)), slicing_under(result)
    reason = left_out(check, method)
    if not reason and check == "shuffle":
        evidence = gather_evidence(context, seed=seed)
        made = shuffled(context, evidence, result, generator("sanity", check, seed))
        masks, slices = on_device(context, made.masks), made.slicing
    if not reason and check not in ("shuffle", "reinitialize"):
        altered: dict[str, Any] = {"drive": invert, "lowest": True} if check == "invert" else {}
        if check in _CORRUPTED:
            altered = {"corrupt": lambda images: _CORRUPTED[check](images, generator("sanity", check, seed))}
        brief = of_a_step(training)
        try:
            _, made = make_masks(
                context, method, seed=seed, sparsity=sparsity, budget=budget, training=brief, **altered
            )
        except StepError as error:
            reason = f"there are no such masks: {error.message}"
        else:
            shared, masks, slices = overlap(masks, made.masks), made.masks, made.slicing
    accuracies = reason or _train(context, masks, slices, check, training, seed)
    if isinstance(accuracies, str):
        SanityResult(chosen, reached, shared, accuracies).write(context.output)
    else:
        SanityResult(chosen, reached, shared, "", **accuracies).write(context.output)


def _choose(context: Context, candidates: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
    if len(candidates) == 1:
        return next(iter(candidates)), {}
    reached: dict[str, list[float]] = {name: [] for name in candidates}
    for role, artifact in context.roles("evaluate").items():
        reached[role.partition(".")[0]].append(EvaluateResult.read(artifact).validation_accuracy)
    return best_of(reached)


def _train(
    context: Context, masks: Tensors, slices: Slicing | None, check: str, training: Mapping[str, Any], seed: int
) -> dict[str, float] | str:
    # The accuracies of the network, or the reason for their absence.
    model = load_network(context)
    if check == "reinitialize":
        if START in InitResult.read(context.inputs["init"]).model:
            return "the network starts from trained weights, of which there is one draw"
        before = prunable_weights(model)
        other = generator("sanity", check, seed).initial_seed()
        model = build_network(context, seed=other)
        if all(bool((weight == before[name]).all()) for name, weight in prunable_weights(model).items()):
            return "the network begins with the same weights at every seed"
    recipe, images = Recipe(**training), images_of(context, "train")
    model, held = network_to_train(model, masks, slices)
    train_network(model, images, recipe, generator("train", seed), masks=held, observe=context.observe)
    if not_finite(state_of(model)):
        return "training under its masks diverged"
    batch = context.placement.evaluation_batch
    return {
        f"{split}_accuracy": accuracy(model, images_of(context, split), recipe.precision, batch=batch)
        for split in ("validation", "test")
    }
