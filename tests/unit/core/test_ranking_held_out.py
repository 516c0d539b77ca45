"""Held-out layers: no scorer is judged on a layer whose twin it learned from."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch

from autosparse.core.features import Features
from autosparse.core.ranking import Split, cross_validate, spearman
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


@pytest.mark.parametrize("split", ["layers", "seeds", "networks"])
def test_the_rounds_of_a_layer_are_held_out_together(split: Split) -> None:
    """Whatever is held out, no scorer learns from a layer at one round and is judged on it at another."""
    names = [
        f"{network}.{seed}@{number}:conv.{layer}"
        for network in (0, 1) for seed in (100, 101) for number in (1, 2, 10) for layer in range(3)
    ]  # fmt: skip
    features = Features(("magnitude",), {name: torch.rand(8, 1) for name in names})
    labels = {name: (torch.rand(8) < 0.5).float() for name in names}
    judged: list[str] = []

    def learn(features: Features, labels: Tensors) -> Tensors:
        return dict.fromkeys(labels, torch.zeros(()))

    def predict(learned: Tensors, features: Features) -> Tensors:
        def places(names: Iterable[str]) -> set[tuple[str, str]]:
            return {(name.partition("@")[0], name.partition(":")[2]) for name in names}

        assert learned
        assert not places(learned) & places(features.values)

        judged.extend(features.values)
        return {name: values[:, 0] for name, values in features.values.items()}

    cross_validate(learn, predict, features, labels, folds=3, split=split)

    assert sorted(names) == sorted(judged)


def test_survivors_are_found_in_each_round() -> None:
    """A scorer that orders the weights of each round finds all that survive, though no threshold does in all rounds."""
    labels = {"100@1:a": torch.tensor([1.0, 1.0, 1.0, 0.0]), "100@2:a": torch.tensor([1.0, 0.0, 0.0])}
    scores = {"100@1:a": torch.tensor([9.0, 8.0, 7.0, 6.0]), "100@2:a": torch.tensor([3.0, 2.0, 1.0])}
    tables = {"100@1:b": torch.zeros(2, 1), **{name: torch.zeros(len(part), 1) for name, part in labels.items()}}
    shares = {"100@1:b": torch.tensor([1.0, 0.0]), **labels}

    found = cross_validate(
        lambda features, labels: {},
        lambda state, features: {name: scores.get(name, shares[name]) for name in features.values},
        Features(("magnitude",), tables),
        shares,
        folds=2,
    )

    assert 1.0 == found.precision


def test_a_single_layer_cannot_be_held_out() -> None:
    """A network of one layer leaves nothing to learn from: an error, not a score on what was learned."""
    features = Features(("magnitude",), {"100:only": torch.rand(8, 1)})

    with pytest.raises(ValueError, match="one layer"):
        cross_validate(lambda f, s: {}, lambda s, f: {}, features, {"100:only": torch.rand(8)}, folds=3)


def test_a_prediction_that_is_no_number_ranks_last() -> None:
    """A scorer that diverged gets the worst value, so that a study goes on without it."""
    assert -1.0 == spearman(torch.tensor([0.1, float("nan"), 0.3]), torch.tensor([1.0, 2.0, 3.0]))
