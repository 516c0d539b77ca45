"""sanity: one check of one method's masks, trained and evaluated like every other network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from autosparse.core.images import Images
from autosparse.core.sanity import best_of, invert, left_out, overlap, permute_labels, permute_pixels, shuffle
from autosparse.core.training.loop import Recipe, accuracy, of_a_step
from autosparse.core.training.loop import train as train_network
from autosparse.core.weights import Tensors, prunable_weights, state_of
from autosparse.errors import StepError
from autosparse.steps._base import operations
from autosparse.steps.context import Work, build_network, generator, load_network
from autosparse.steps.mask import make_masks, mask_cost, takes_training
from autosparse.steps.train import evaluate_cost, train_cost
from autosparse.steps.workload import LINE, Facts, Workload, costs, sum_units

_CORRUPTED = {"random_labels": permute_labels, "shuffled_pixels": permute_pixels}


@operations.register(
    version=1,
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
    work: Work,
    *,
    check: str,
    candidates: dict[str, Any],
    training: dict[str, Any],
    seed: int,
    sparsity: float = 0.0,
    budget: Any = None,
) -> None:
    """Check the candidate that is best on validation images, or say why the check is left out.

    `candidates` are methods, id -> keyed choices, with their masks in the inputs `mask.ID`. Of several, inputs
    `evaluate.ID.SEED` tell what they reach.
    """
    chosen, reached = _choose(work, candidates)
    method = candidates[chosen]
    found: dict[str, Any] = {"chosen": chosen, "candidates": reached, "overlap": None}
    masks = {name: mask.to(work.device) for name, mask in work.roles("mask")[chosen].tensors("masks").items()}
    reason = left_out(check, method)
    if not reason and check == "shuffle":
        masks = shuffle(masks, generator("sanity", check, seed))
    if not reason and check not in ("shuffle", "reinitialize"):
        altered: dict[str, Any] = {"drive": invert, "lowest": True} if check == "invert" else {}
        if check in _CORRUPTED:
            altered = {"corrupt": partial(_corrupted, check, seed)}
        brief = of_a_step(training)
        try:
            _, made = make_masks(work, method, seed=seed, sparsity=sparsity, budget=budget, training=brief, **altered)
        except StepError as error:
            reason = f"there are no such masks: {error.message}"
        else:
            masks, found["overlap"] = made, overlap(masks, made)
    if not reason:
        reason = _train(work, masks, check, training, seed, found)
    work.output.write_json("result", {**found, "left_out": reason})


def _choose(work: Work, candidates: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
    if len(candidates) == 1:
        return next(iter(candidates)), {}
    reached: dict[str, list[float]] = {name: [] for name in candidates}
    for role, artifact in work.roles("evaluate").items():
        reached[role.partition(".")[0]].append(artifact.json("result")["validation_accuracy"])
    return best_of(reached)


def _train(
    work: Work, masks: Tensors, check: str, training: Mapping[str, Any], seed: int, found: dict[str, Any]
) -> str:
    # Adds what the network reaches to what was found; gives why there is nothing to tell, if so.
    model = load_network(work)
    if check == "reinitialize":
        before = prunable_weights(model)
        other = generator("sanity", check, seed).initial_seed()
        model = build_network(work, seed=other)
        if all(bool((weight == before[name]).all()) for name, weight in prunable_weights(model).items()):
            return "the network begins with the same weights at every seed"
    recipe, images = Recipe(**training), work.images("train")
    train_network(model, images, recipe, generator("train", seed), masks=masks, observe=work.observe)
    if not all(bool(tensor.isfinite().all()) for tensor in state_of(model).values()):
        return "training under its masks diverged"
    for split in ("validation", "test"):
        reached = accuracy(model, work.images(split), recipe.precision, batch=work.place.evaluation_batch)
        found[f"{split}_accuracy"] = reached
    return ""


def _corrupted(check: str, seed: int, images: Images) -> Images:
    return _CORRUPTED[check](images, generator("sanity", check, seed))


@costs.register(name="sanity")
def sanity_cost(options: Mapping[str, Any], facts: Facts) -> Workload:
    """Return the work of the most expensive candidate: its masks, one training and one evaluation."""
    check, recipe = options["check"], options["training"]
    parts = [train_cost(options, facts), evaluate_cost(recipe, facts)]
    if check not in ("shuffle", "reinitialize"):
        steps = {"training": of_a_step(recipe)}
        masks = [
            mask_cost({"method": method, **(steps if takes_training(method, facts.warm_up) else {})}, facts)
            for method in options["candidates"].values()
            if not left_out(check, method)
        ]
        times = 2 if check == "invert" else 1
        units = {unit: times * max(mask.units[unit] for mask in masks) for unit in masks[0].units}
        parts.append(replace(masks[0], units=units, memory=tuple(phase for mask in masks for phase in mask.memory)))
    return Workload(
        {"check": check, "candidates": sorted(options["candidates"]), "training": recipe},
        sum_units(parts),
        tuple(phase for part in parts for phase in part.memory),
        3 * LINE,
        batch=recipe["batch"],
        precision=recipe["precision"],
        kernels=facts.kernels,
    )
