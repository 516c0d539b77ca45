"""Held-out layers: no scorer is judged on a layer whose twin it learned from."""

from __future__ import annotations

import pytest
import torch

from autosparse.core.features import Features
from autosparse.core.ranking import cross_validate, spearman
from autosparse.core.weights import Tensors


def test_the_twins_of_a_held_out_layer_are_held_out_too() -> None:
    """With several sources, a layer is held out of all of them at once, and every layer once."""
    names = [f"{seed}:stages.{layer}" for seed in (100, 101) for layer in range(5)]
    features = Features(("magnitude",), {name: torch.rand(8, 1) for name in names})
    labels = {name: torch.rand(8) for name in names}
    judged: list[str] = []

    def learn(features: Features, labels: Tensors) -> Tensors:
        return dict.fromkeys(labels, torch.zeros(()))

    def predict(learned: Tensors, features: Features) -> Tensors:
        seen = {name.partition(":")[2] for name in learned}

        assert not seen & {name.partition(":")[2] for name in features.values}

        judged.extend(features.values)
        return {name: values[:, 0] for name, values in features.values.items()}

    cross_validate(learn, predict, features, labels, folds=3)

    assert sorted(names) == sorted(judged)


def test_a_single_layer_cannot_be_held_out() -> None:
    """A network of one layer leaves nothing to learn from: an error, not a score on what was learned."""
    features = Features(("magnitude",), {"100:only": torch.rand(8, 1)})

    with pytest.raises(ValueError, match="one layer"):
        cross_validate(lambda f, s: {}, lambda s, f: {}, features, {"100:only": torch.rand(8)}, folds=3)


def test_a_prediction_that_is_no_number_ranks_last() -> None:
    """A scorer that diverged gets the worst value, so that a study goes on without it."""
    assert -1.0 == spearman(torch.tensor([0.1, float("nan"), 0.3]), torch.tensor([1.0, 2.0, 3.0]))
