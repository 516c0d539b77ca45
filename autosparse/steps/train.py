"""train: the shared recipe, on a masked or the dense network."""

from __future__ import annotations

import math
from typing import Any

from autosparse.core.training.loop import Recipe
from autosparse.core.training.loop import train as train_network
from autosparse.core.weights import state_of
from autosparse.errors import Diverged
from autosparse.steps import operations
from autosparse.steps.work import Work, generator, load_network


@operations.register(version=1, by_team=True)
def train(work: Work, *, training: dict[str, Any], seed: int) -> None:
    """Train from input `init` under input `mask`, or dense without it. The batches depend on the seed alone."""
    model = load_network(work)
    images = work.images("train")
    losses = train_network(
        model,
        images,
        Recipe(**training),
        generator("train", seed),
        masks=work.masks("mask"),
        observe=work.observe,
        team=work.team,
    )
    broken = [name for name, tensor in state_of(model).items() if not tensor.isfinite().all()]
    if broken or not all(map(math.isfinite, losses)):
        raise Diverged(f"training diverged: {broken[0] if broken else 'its loss'} is not finite", "lower `training.lr`")
    work.output.write_tensors("state", state_of(model))
    work.output.write_json("result", {"losses": losses})
