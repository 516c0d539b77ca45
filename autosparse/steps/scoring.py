"""A scorer ready to use: what it learned, put in the place from which the criterion `learned` takes it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from autosparse.core.evidence import Scorer
from autosparse.core.scorers import groups_of, scorers
from autosparse.core.selection import selections
from autosparse.core.training.loop import Recipe
from autosparse.core.training.masked_steps import warmed_up
from autosparse.lazy_torch import torch
from autosparse.steps.work import choose


def make_scorer(
    about: Mapping[str, Any], state: Mapping[str, torch.Tensor], recipe: Recipe, device: torch.device
) -> Scorer:
    """The scorer that `about`, as in `scorer.json`, and its tensors are; `recipe` trains networks that it warms up."""
    groups = about.get("features") or groups_of(about["name"], about["options"])
    placed = {name: tensor.to(device) for name, tensor in state.items()}
    return Scorer(
        tuple(groups),
        partial(scorers[about["name"]].facts["predict"], placed),
        partial(warmed_up, recipe=recipe, steps=about["options"].get("warm_up", 0)),
        choose(selections, about["selection"]) if "selection" in about else None,
    )
