"""A trial's proxy training: a network pruned with the trial's scorer, trained briefly, and validated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autosparse.core.training.loop import Recipe, accuracy, of_a_step
from autosparse.core.training.loop import train as train_network
from autosparse.core.weights import Tensors
from autosparse.steps.mask import make_masks
from autosparse.steps.work import Work, generator, load_network


def validate_scorer(
    work: Work,
    scorer: Mapping[str, Any],
    state: Tensors,
    method: Mapping[str, Any],
    training: Mapping[str, Any],
    *,
    sparsity: float,
    epochs: float,
    seed: int,
) -> float:
    """The validation accuracy, in percent, of input `init` pruned by a method with this scorer and trained so long.

    0 for a scorer that diverged: it orders nothing.
    """
    if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
        return 0.0
    brief = of_a_step(training)
    _, masks = make_masks(
        work, method, seed=seed, sparsity=sparsity, budget=None, training=brief, learned=(scorer, state)
    )
    recipe, model = Recipe(**training, epochs=epochs), load_network(work)
    masks = {name: mask.to(work.device) for name, mask in masks.items()}
    train_network(model, work.images("train"), recipe, generator("train", seed), masks=masks, observe=work.observe)
    return accuracy(model, work.images("validation"), recipe.precision, batch=work.place.evaluation_batch)
