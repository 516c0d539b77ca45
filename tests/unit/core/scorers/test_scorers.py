"""Scorers learn a planted rule, deterministically, and predict the same in any portions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch

from autosparse.core.features import Features, Position, Seen, table_layers
from autosparse.core.ranking import cross_validate, spearman
from autosparse.core.scorers import groups_of, scorers
from autosparse.core.scorers.perceptron import ordinal, pairwise
from autosparse.core.weights import Layer, Tensors
from autosparse.store import dump_tensors, load_tensors
from tests.unit.core.conftest import assert_same, seeded

SIZES = ((32, 16), (24, 32), (16, 24), (10, 16))
GROUPS = ("magnitude", "gradient", "sensitivity", "channels", "layer")
QUICK: dict[str, dict[str, Any]] = {"paper": {"steps": 60, "batch": 128}}
"""Options with which a scorer that takes long learns a simple rule."""


def examples(seed: int = 0, groups: Sequence[str] = GROUPS) -> tuple[Features, Tensors]:
    """Features of random layers, and as labels the rank of each weight's magnitude in its layer."""
    generator = seeded(seed)
    layers = [Layer(f"{n}.weight", shape, shape[1], shape[0], (), 1, 1) for n, shape in enumerate(SIZES)]
    weights = {layer.name: torch.randn(layer.shape, generator=generator) for layer in layers}
    gradient = {layer.name: torch.randn(layer.shape, generator=generator) for layer in layers}
    labels = {
        name: weight.flatten().abs().argsort().argsort().float() / (weight.numel() - 1)
        for name, weight in weights.items()
    }
    position = Position(1, len(layers), sum(layer.size for layer in layers))
    seen = (Seen(layer, position, weights[layer.name], gradient[layer.name]) for layer in layers)
    parts = list(table_layers(seen, groups))
    return Features(parts[0].columns, {name: values for part in parts for name, values in part.values.items()}), labels


def looks_at(name: str) -> tuple[str, ...]:
    """The feature groups that a scorer looks at by default."""
    return groups_of(name, {})


def fit(name: str, features: Features, labels: Tensors, seed: int = 0, **options: Any) -> Tensors:
    """The state that a registered scorer learns."""
    state: Tensors = scorers[name].function(features, labels, seeded(seed), **{**QUICK.get(name, {}), **options})
    return state


def few(name: str) -> dict[str, int]:
    """Few updates, for a scorer that takes any."""
    return {"steps": 10} if "steps" in scorers[name].options else {}


def briefly(name: str, seed: int = 0, **options: Any) -> Tensors:
    """The state that a scorer learns from the examples in a few updates, if it takes any."""
    features, labels = examples(0, looks_at(name))
    return fit(name, features, labels, seed, **few(name), **options)


@cache
def learned(name: str) -> Tensors:
    """The state that a scorer learns from the examples."""
    return fit(name, *examples(0, looks_at(name)))


def predict(name: str, state: Tensors, features: Features) -> Tensors:
    """Its predictions."""
    scores: Tensors = scorers[name].facts["predict"](state, features)
    return scores


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "paper")) for name in scorers.names]
)
class TestEveryScorer:
    """Tests of each scorer, however it learns."""

    def test_learns_a_planted_rule(self, name: str) -> None:
        """Trained on survival by magnitude, it orders the weights of a network it never saw by magnitude."""
        features, labels = examples(1, looks_at(name))
        scores = predict(name, learned(name), features)

        assert all(spearman(scores[layer], labels[layer]) > 0.9 for layer in labels)

    def test_carries_over_to_layers_held_out(self, name: str) -> None:
        """The planted rule is found on layers that were not learned from."""
        features, labels = examples(0, looks_at(name))

        result = cross_validate(
            lambda some, known: fit(name, some, known),
            lambda state, others: predict(name, state, others),
            features,
            labels,
            folds=2,
        )

        assert result.within > 0.8

    def test_one_finite_score_a_weight(self, name: str) -> None:
        """Predictions are `[weights]`, finite, for layers in their order."""
        features, _ = examples(0, looks_at(name))

        scores = predict(name, learned(name), features)

        assert list(features.values) == list(scores)
        for layer, table in features.values.items():
            assert (len(table),) == scores[layer].shape
            assert bool(scores[layer].isfinite().all())
            assert not scores[layer].requires_grad

    def test_generator_decides(self, name: str) -> None:
        """The same generator learns the same state bit for bit, and the global one is not touched."""
        random = torch.get_rng_state()

        first, second = (briefly(name, seed=5) for _ in range(2))

        assert_same(first, second)
        assert torch.equal(random, torch.get_rng_state())

    def test_arguments_are_not_modified(self, name: str) -> None:
        """Features, labels and the state that predicts are as they were."""
        features, labels = examples(0, looks_at(name))
        before = examples(0, looks_at(name))

        state = fit(name, features, labels, **few(name))
        copy = {key: tensor.clone() for key, tensor in state.items()}
        predict(name, state, features)

        assert_same(before[0].values, features.values)
        assert_same(before[1], labels)
        assert_same(copy, state)

    def test_state_can_be_stored(self, name: str) -> None:
        """A state that was written and read predicts the same, bit for bit."""
        features, _ = examples(0, looks_at(name))
        state = learned(name)

        again = load_tensors(dump_tensors(state))

        assert_same(predict(name, state, features), predict(name, again, features))

    def test_layers_are_predicted_by_themselves(self, name: str) -> None:
        """Predictions for a layer do not depend on the other layers."""
        features, _ = examples(0, looks_at(name))
        state = learned(name)
        whole = predict(name, state, features)

        for layer in features.values:
            torch.testing.assert_close(whole[layer], predict(name, state, features.take([layer]))[layer])

    def test_observer_sees_progress(self, name: str) -> None:
        """The observer receives progress up to the end."""
        events: list[tuple[int, int]] = []
        briefly(name, observe=lambda done, total: events.append((done, total)))

        assert events[-1][0] == events[-1][1]
        assert all(earlier[0] < later[0] for earlier, later in itertools.pairwise(events))


@pytest.mark.parametrize("loss", ["ordinal", "pairwise"])
class TestEveryLoss:
    """Tests of the losses that depend on the order of shares alone."""

    def test_learns_a_planted_rule(self, loss: str) -> None:
        """Trained on survival by magnitude, the scorer orders the weights of a network it never saw by magnitude."""
        state = fit("mlp", *examples(0), loss=loss, steps=150)

        features, labels = examples(1)
        scores = predict("mlp", state, features)

        assert all(spearman(scores[layer], labels[layer]) > 0.95 for layer in labels)

    def test_state_is_the_perceptron_alone(self, loss: str) -> None:
        """Learned parameters of a loss are not kept: the state is that of any loss."""
        features, labels = examples()

        assert list(fit("mlp", features, labels, steps=1)) == list(fit("mlp", features, labels, steps=1, loss=loss))

    @pytest.mark.parametrize("share", [0.0, 1.0])
    def test_equal_labels_are_no_failure(self, loss: str, share: float) -> None:
        """If all weights have equal labels nothing is learned, and every score is finite."""
        features, labels = examples()
        equal = {name: torch.full_like(values, share) for name, values in labels.items()}

        scores = predict("mlp", fit("mlp", features, equal, steps=5, loss=loss), features)

        assert all(bool(values.isfinite().all()) for values in scores.values())

    def test_one_layer_is_enough(self, loss: str) -> None:
        """Pairs across layers need two: with one layer the pairs inside it are what there is."""
        features, labels = examples()
        (name, *_) = labels

        scores = predict("mlp", fit("mlp", features.take([name]), {name: labels[name]}, loss=loss, steps=150), features)

        assert spearman(scores[name], labels[name]) > 0.9


def test_ordinal_by_hand() -> None:
    """Of shares 0, 1/2 and 1, all alike, the cut points begin where 2/3 and 1/3 of the weights survive as long."""
    shares = torch.tensor([0.0, 0.5, 1.0])
    loss = ordinal([shares], seeded())
    cut = math.log(2)

    expected = torch.tensor([
        [-math.log(1 / 3), -math.log(2 / 3)],  # survives no round: P(at least the first) = 2/3
        [-math.log(2 / 3), -math.log(2 / 3)],
        [-math.log(2 / 3), -math.log(1 / 3)],
    ])  # fmt: skip
    first, gaps = loss.learned
    torch.testing.assert_close(torch.tensor([-cut]), first.detach())
    torch.testing.assert_close(torch.tensor([2 * cut]), torch.nn.functional.softplus(gaps.detach()))
    torch.testing.assert_close(expected.mean(), loss.of(torch.zeros(3), shares).detach())


def test_pairwise_by_hand() -> None:
    """Two layers of two weights: pairs inside and across count alike, those of equal shares not at all."""
    scores = torch.tensor([0.0, 1.0, 2.0, 4.0])
    loss = pairwise([torch.zeros(2)] * 2, seeded())

    inside = loss.of(scores, torch.tensor([0.0, 1.0, 0.0, 1.0]))  # across, weights of equal shares stand together
    both = loss.of(scores, torch.tensor([0.0, 0.0, 1.0, 0.0]))

    def fails(ahead: float) -> float:
        return math.log1p(math.exp(-ahead))

    assert pytest.approx((fails(1) + fails(2)) / 2 / 2) == float(inside)
    assert pytest.approx((fails(2 - 4) + fails(2 - 0)) / 2) == float(both)


def test_large_layers_are_predicted_in_portions() -> None:
    """A layer beyond one portion has the predictions of its parts, each row in its place."""
    features, labels = examples()
    state = fit("mlp", features, labels, steps=20)
    table = features.table().repeat(80, 1)[: 2 * 65536 + 7]
    parts = table.split(10_000)

    whole = predict("mlp", state, Features(features.columns, {"big": table}))["big"]
    expected = predict("mlp", state, Features(features.columns, {str(n): part for n, part in enumerate(parts)}))

    assert (2 * 65536 + 7,) == whole.shape
    torch.testing.assert_close(torch.cat(list(expected.values())), whole)


def test_groups_left_out_are_not_seen() -> None:
    """A scorer that uses two groups predicts the same whatever is in the other columns."""
    features, labels = examples()
    state = fit("mlp", features, labels, features_used=("layer", "magnitude"), steps=20)
    used = torch.tensor([group in ("layer", "magnitude") for group in features.columns])
    other = {name: torch.where(used, table, 99.0) for name, table in features.values.items()}

    expected = predict("mlp", state, features)

    assert_same(expected, predict("mlp", state, Features(features.columns, other)))


@pytest.mark.parametrize(("width", "depth"), [(1, 1), (8, 1), (5, 3)])
def test_network_has_the_asked_size(width: int, depth: int) -> None:
    """The perceptron has `depth` hidden layers of `width` units, and its state says all there is to it."""
    features, labels = examples()

    state = fit("mlp", features, labels, width=width, depth=depth, steps=1)

    columns = len(features.columns)
    sizes = [tuple(tensor.shape) for name, tensor in state.items() if name.endswith("weight")]
    assert [(width, columns), *[(width, width)] * (depth - 1), (1, width)] == sizes
    assert list(range(columns)) == state["columns"].tolist()


def test_more_updates_fit_better() -> None:
    """The squared error falls with the number of updates."""
    features, labels = examples()
    target = torch.cat(list(labels.values()))
    errors = []
    for steps in (1, 30, 300):
        scores = predict("mlp", fit("mlp", features, labels, steps=steps), features)
        errors.append(float((torch.cat(list(scores.values())) - target).square().mean()))

    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.01
